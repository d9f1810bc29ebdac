"""The random numbers of delays."""

import random
from typing import Final

#: Draws from the operating system. Jobs share the `random` module: a job that calls `random.seed(1)` would
#: give all its retries one delay, and our draws would change what the job draws. A copy of the process that a
#: fork made does not repeat these numbers.
JITTER: Final = random.SystemRandom()
