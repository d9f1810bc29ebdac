import os
import time

import dramatiq

from callboard.dramatiq import CallboardBroker

dramatiq.set_broker(CallboardBroker())

from sentry_program import sentry_fails, sentry_fails_async

sentry_fails.send()
sentry_fails_async.send()
deadline, notes = time.monotonic() + 20, ""
while not ("sentry_fails reported\n" in notes and "sentry_fails_async reported too\n" in notes):
    assert time.monotonic() < deadline, notes
    time.sleep(0.1)
    if os.path.exists(os.environ["GUEST_NOTES"]):
        notes = open(os.environ["GUEST_NOTES"]).read()
