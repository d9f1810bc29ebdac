"""The sender program for Callboard: enqueues through the Client, as benchmarks/pace.py directs."""

from collections.abc import Sequence

from benchmarks import pace
from callboard import Client


class OurSender:
    """Sends through the Client. Each call returns when its jobs are committed."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def noop(self) -> object:
        return self._client.enqueue("noop")

    def noops(self, count: int) -> object:
        return self._client.enqueue_many("noop", [{}] * count)

    def picked_up(self, sent: Sequence[float]) -> object:
        if len(sent) == 1:
            return self._client.enqueue("picked_up", {"sent": sent[0]})
        return self._client.enqueue_many("picked_up", [{"sent": one} for one in sent])


if __name__ == "__main__":
    with Client.from_env() as client:
        pace.main(OurSender(client))
