import time

import abort_program
from dramatiq_abort import abort

message = abort_program.abort_long.send()
time.sleep(1.5)
abort(message.message_id)
assert message.get_result(block=True, timeout=20_000) == "aborted"
later = abort_program.abort_long.send_with_options(delay=1_500)
abort(later.message_id)
assert later.get_result(block=True, timeout=20_000) is None
