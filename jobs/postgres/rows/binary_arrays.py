"""Arrays in Postgres's binary format: encoding them here costs less than the driver's own way.

The format is that of `array_recv` in Postgres's utils/adt/arrayfuncs.c: dimensions, whether there are nulls,
the type of the elements; then for the one dimension its length and lower bound; then each element behind its
length.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, ClassVar, Final
from uuid import UUID

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

_HEAD: Final = Struct(">iiIii")
_SIZE: Final = Struct(">i")
_NULL: Final = _SIZE.pack(-1)
_SIXTEEN: Final = _SIZE.pack(16)
_NUMBER: Final = Struct(">ii")


class _Array:
    """An encoded array. The driver sends it unchanged.

    values: what it was made of, for a driver that encodes arrays itself.
    """

    element: ClassVar[int]
    __slots__ = ("data", "values")
    values: Iterable[Any]

    def __init__(self, parts: Sequence[bytes], *, nulls: bool = False) -> None:
        head = _HEAD.pack(1, nulls, self.element, len(parts), 1)
        empty = _HEAD.pack(0, 0, self.element, 0, 0)[:12]
        self.data = head + b"".join(parts) if parts else empty


class Uuids(_Array):
    """A query parameter of the type uuid[]. An element that is None becomes NULL."""

    element = psycopg.adapters.types["uuid"].oid

    def __init__(self, values: Iterable[UUID | None]) -> None:
        self.values = values
        parts = [_NULL if one is None else _SIXTEEN + one.int.to_bytes(16) for one in values]
        super().__init__(parts, nulls=_NULL in parts)


class Integers(_Array):
    """A query parameter of the type int4[]."""

    element = psycopg.adapters.types["int4"].oid

    def __init__(self, values: Iterable[int]) -> None:
        self.values = values
        super().__init__([_NUMBER.pack(4, one) for one in values])


class Texts(_Array):
    """A query parameter of the type text[], made of UTF-8 bytes. An element that is None becomes NULL."""

    element = psycopg.adapters.types["text"].oid

    def __init__(self, values: Iterable[bytes | None]) -> None:
        self.values = values
        parts = [_NULL if one is None else _SIZE.pack(len(one)) + one for one in values]
        super().__init__(parts, nulls=_NULL in parts)


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        data: bytes = obj.data
        return data


_DUMPERS: Final = [
    (
        kind,
        type(f"{kind.__name__}Dumper", (_Dumper,), {"oid": psycopg.adapters.types[kind.element].array_oid}),
    )
    for kind in (Uuids, Integers, Texts)
]


def register(adapters: AdaptersMap) -> None:
    """Let the driver take these arrays as parameters."""
    for kind, dumper in _DUMPERS:
        adapters.register_dumper(kind, dumper)


register(psycopg.adapters)
