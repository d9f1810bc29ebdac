import tempfile
import time

from dramatiq_workflow import Chain, Group, Workflow
from workflow_program import broker, flow_step

path = tempfile.mktemp()
Workflow(
    Chain(
        flow_step.message(path, "a"),
        Group(flow_step.message(path, "b"), flow_step.message(path, "b")),
        flow_step.message(path, "c"),
    ),
    broker=broker,
).run()
deadline = time.monotonic() + 20
text = ""
while text != "abbc":
    assert time.monotonic() < deadline, text
    time.sleep(0.1)
    try:
        text = open(path).read()
    except FileNotFoundError:
        continue
