import pendulum
from periodiq_program import every_minute

now = pendulum.now()
on_time = every_minute.send_with_options(scheduled_at=str(now))
assert on_time.get_result(block=True, timeout=20_000) == "ticked"
late = every_minute.send_with_options(scheduled_at=str(now.subtract(hours=1)))
assert late.get_result(block=True, timeout=20_000) is None
