"""What a connection reads next."""

from enum import Enum, auto


class Reading(Enum):
    """The part of a request that the connection reads next."""

    #: Between requests. On a new connection, before the first one.
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    #: The request is read completely, and is being answered.
    END = auto()
    #: What still arrives is dropped.
    REFUSED = auto()
