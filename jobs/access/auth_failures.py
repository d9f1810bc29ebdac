"""Limit failed authentications: after too many wrong keys from one address, further ones get RateLimited.

Only failures are counted. A valid key is never refused or delayed, whatever else comes from its address.
"""

import math
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from threading import Lock
from typing import Final

import structlog

from callboard.jobs.errors import RateLimited
from callboard.jobs.metrics import AUTH_FAILURES
from callboard.jobs.model.basics.clock import SYSTEM, Clock
from callboard.jobs.redis.transport import best_effort
from callboard.jobs.redis.window_counter import OTHERS, WindowCounter

#: How many failures an address may have in a window, and how long a window is.
MOST_FAILURES: Final = 20
WINDOW: Final = timedelta(minutes=1)
#: How many addresses have a count of their own in a window. All further ones share one count.
MOST_ADDRESSES: Final = 10_000
#: The provider of an IPv6 client usually gives it a whole network of this size.
_IPV6_PREFIX: Final = 64
_WINDOW_SECONDS: Final = int(WINDOW.total_seconds())

log = structlog.get_logger(__name__)


class AuthFailures:
    """Counts failed authentications by address in windows of one minute.

    All processes share the counts in Redis. Each process also counts alone: it needs no Redis for an address
    that is beyond the limit, and works without Redis.
    """

    def __init__(self, shared: WindowCounter, *, clock: Clock = SYSTEM) -> None:
        self._shared = shared
        self._clock = clock
        self._lock = Lock()
        self._window = 0
        #: The failures that this process has counted in the window, by subject.
        self._counts: dict[str, int] = {}
        #: The subjects that are beyond the limit in the window.
        self._limited: set[str] = set()

    def count(self, address: str) -> None:
        """Count a failed authentication. Raises RateLimited when the address is beyond the limit.

        address: the client's IP address. An IPv6 address counts as its /64 network.
        """
        now = self._clock.now().timestamp()
        window = int(now // _WINDOW_SECONDS)
        subject, count, limited = self._count_here(_subject(address), window)
        if not limited and count <= MOST_FAILURES:
            with best_effort("count_auth_failure"):
                count = max(count, self._shared.add(subject, window))
        if not limited and count <= MOST_FAILURES:
            AUTH_FAILURES.labels("refused").inc()
            return
        AUTH_FAILURES.labels("rate_limited").inc()
        if self._begin_limit(subject, window):
            log.warning("auth.rate_limited", client=subject, failures=count)
        wait = max(1, math.ceil((window + 1) * _WINDOW_SECONDS - now))
        raise RateLimited(
            f"too many invalid API keys came from this address; send a valid one, or try again in {wait} s",
            retry_after=wait,
        )

    def close(self) -> None:
        self._shared.close()

    def _count_here(self, subject: str, window: int) -> tuple[str, int, bool]:
        """Return the subject that counts, its count in this process, and whether it is beyond the limit."""
        with self._lock:
            if window != self._window:
                self._window, self._counts, self._limited = window, {}, set()
            if subject not in self._counts and len(self._counts) >= MOST_ADDRESSES:
                subject = OTHERS
            count = self._counts[subject] = self._counts.get(subject, 0) + 1
            return subject, count, subject in self._limited

    def _begin_limit(self, subject: str, window: int) -> bool:
        """Return whether this is the subject's first refusal in the window."""
        with self._lock:
            if window != self._window or subject in self._limited:
                return False
            self._limited.add(subject)
            return True


def _subject(address: str) -> str:
    """Return what counts for an address: an IPv4 address, the network of an IPv6 address, or OTHERS."""
    try:
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return OTHERS
    if isinstance(read, IPv6Address):
        if read.ipv4_mapped is not None:
            return str(read.ipv4_mapped)
        return str(IPv6Network((int(read), _IPV6_PREFIX), strict=False))
    return str(read)
