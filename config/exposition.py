"""The text of a scrape: OpenMetrics or Prometheus's older format, compressed or not, as the scraper asks."""

import gzip
from dataclasses import dataclass
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

_OPENMETRICS: Final = "application/openmetrics-text"
_PLAIN: Final = "text/plain"
MEDIA_TYPES: Final = (_PLAIN, _OPENMETRICS)
#: The rest of a longer header is ignored.
_MAX_HEADER: Final = 4096
#: Higher levels take several times as long, and save little.
_GZIP_LEVEL: Final = 4


@dataclass(frozen=True, slots=True)
class Exposition:
    """The answer to a scrape."""

    body: bytes
    headers: dict[str, str]


def expose(registry: Collector, *, accept: str, accept_encoding: str) -> Exposition:
    """Return the metrics of a registry. accept, accept_encoding: headers of the request; any text is fine.

    The library's own `choose_encoder` ignores `q`, and repeats the version that the client asked for.
    """
    types = _qualities(accept)
    # Without OpenMetrics in its Accept header, a client gets the older format, whatever it accepts.
    is_open = types.get(_OPENMETRICS, 0) > 0 and types[_OPENMETRICS] >= types.get(_PLAIN, 0)
    body: bytes = (
        openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        if is_open
        else generate_latest(registry)
    )
    headers = {
        "Content-Type": openmetrics.CONTENT_TYPE_LATEST if is_open else CONTENT_TYPE_PLAIN_0_0_4,
        "Vary": "Accept, Accept-Encoding",
    }
    if _qualities(accept_encoding).get("gzip", 0) > 0:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Exposition(body, headers)


def _qualities(header: str) -> dict[str, float]:
    """Return the quality of each value in a header such as `text/plain;q=0.5, */*`. Bad ones count as 0."""
    found: dict[str, float] = {}
    for part in header[:_MAX_HEADER].split(","):
        value, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, text = parameter.partition("=")
            if name.strip() == "q":
                quality = _number(text.strip())
        found[value] = max(found.get(value, 0.0), quality)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
