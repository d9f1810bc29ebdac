from callboard_broker_program import broker, shared_async, shared_slow
from dramatiq.results import ResultFailure

messages = [shared_async.message(n) for n in range(50)]
for message in messages:
    broker.enqueue(message)
for n, message in enumerate(messages):
    assert message.get_result(block=True, timeout=20_000) == [n, message.message_id]
try:
    shared_slow.send().get_result(block=True, timeout=20_000)
except ResultFailure as error:
    assert "timeout of 0.5 s" in str(error), error
broker.join("default", timeout=20_000)
