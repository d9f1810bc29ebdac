import os
import time

from otel_program import otel_traced

assert otel_traced.send().get_result(block=True, timeout=20_000) == "traced"
deadline = time.monotonic() + 20
spans = []
while len(spans) < 2:
    assert time.monotonic() < deadline, spans
    time.sleep(0.1)
    spans = [line.split() for line in open(os.environ["GUEST_NOTES"])]
assert len({trace for _, trace in spans}) == 1, spans
