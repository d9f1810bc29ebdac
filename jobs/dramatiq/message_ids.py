"""New Dramatiq messages get ids that can be job ids: UUIDv7, which sort by creation time."""

from types import SimpleNamespace

from dramatiq import message as dramatiq_message

from callboard.jobs.model.basics.ids import new_id


def make_sortable() -> None:
    """Let Dramatiq make UUIDv7 in place of UUIDv4 for new messages of this process.

    A job's id sorts by its age. With such an id, a message has the same id in all hooks, in the worker and in
    the program that keeps it from before it is enqueued.
    """
    # `generate_unique_id`, the default factory of a dataclass, looks this name up for each message.
    vars(dramatiq_message)["uuid"] = SimpleNamespace(uuid4=new_id)
