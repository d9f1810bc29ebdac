"""Redirects every Python door of this process to one platform: `.enqueue()`, `.send()`, clients, brokers.

The doors are classes of ours whose attributes are replaced for the time of a block. So programs need no seam
for tests, and clients and brokers that they made before take part.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from callboard.jobs.client import Client
from callboard.jobs.definitions.catalogue import Catalogue, KnownJob, Versions
from callboard.jobs.dramatiq.broker import CallboardBroker
from callboard.jobs.platform import Platform
from callboard.testing.imported_jobs import full_name, known_job, not_imported, note_broker
from callboard.testing.replacing import Replacement, replaced
from callboard.testing.stock_brokers import sending_to

#: How the catalogue finds versions in the database. It must be read here, before any block replaces it.
FIND_STORED: Final = Catalogue.find_stored


@contextmanager
def redirected(platform: Platform, find: Callable[[Catalogue, str], Versions]) -> Iterator[None]:
    """Make the clients and brokers of this process use this platform.

    find: returns the versions of a job type that no imported module defines; none if there is no such job.
    """

    def of_broker(broker: CallboardBroker) -> Platform:
        note_broker(broker)
        return platform

    def get_job(catalogue: Catalogue, name: str) -> Versions:
        known = catalogue.find(name)
        if not known:
            raise not_imported(name)
        return known

    def own_code(_: Catalogue, name: str) -> KnownJob | None:
        return known_job(name)

    def nothing_cached(*_: object) -> Versions:
        return ()

    def from_settings(kind: type[Client], /, *_: object, **__: object) -> Client:
        client = kind.over(platform)
        # The block owns the platform: it outlives a client that the program closes.
        client._opened.pop_all()  # noqa: SLF001 - of the same package
        return client

    def keep(client: Client, own: Platform) -> None:
        vars(client)["_platform"] = own

    with (
        sending_to(platform),
        replaced(
            Replacement(Client, "from_settings", classmethod(from_settings)),
            Replacement(Client, "_platform", property(lambda _: platform, keep)),
            Replacement(CallboardBroker, "platform", property(of_broker)),
            Replacement(Catalogue, "_own_code", own_code),
            Replacement(Catalogue, "find_cached", nothing_cached),
            Replacement(Catalogue, "find_stored", find),
            Replacement(Catalogue, "get", get_job),
            Replacement(Catalogue, "full_name", lambda _, name: full_name(name)),
        ),
    ):
        yield
