"""Middleware of a program's own, and the notes that it and the actors take.

Copied to where the workers run.
"""

import os
from pathlib import Path
from typing import Any

from dramatiq import Broker, Message, MessageProxy
from dramatiq.middleware import Middleware, SkipMessage


def note(*words: object) -> None:
    """One line, whole or not at all."""
    path = Path(os.environ["CALLBOARD_TEST_LEDGER"]).with_name("notes")
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


_WATCHED = {"add", "add_async"}


class Witness(Middleware):
    """CALLBOARD_MIDDLEWARE names it."""

    @property
    def actor_options(self) -> set[str]:
        return {"witnessed"}

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        message.options.setdefault("traced", "yes")

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if message.options.get("skip"):
            raise SkipMessage("not today")
        if message.actor_name in _WATCHED:
            note("before", message.actor_name, message.queue_name, message.options.get("traced"))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any | None = None,
        exception: BaseException | None = None,
    ) -> None:
        if message.actor_name in _WATCHED:
            note("after", message.actor_name, result)
        if message.options.get("refuse"):
            message.fail()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        note("skipped", message.actor_name)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        note("nack", message.actor_name)
