import time

from django.core.management import call_command
from django_program import Task, django_count, django_count_async

call_command("migrate", verbosity=0)
# Later, or the worker may be done before this process has written that it enqueued the job.
sent = [actor.send_with_options(delay=1_000) for actor in (django_count, django_count_async)]
for message in sent:
    assert message.get_result(block=True, timeout=20_000) >= 1
deadline = time.monotonic() + 20
while {str(task.id): task.status for task in Task.tasks.all()} != {one.message_id: "done" for one in sent}:
    assert time.monotonic() < deadline, [(task.id, task.status) for task in Task.tasks.all()]
    time.sleep(0.1)
