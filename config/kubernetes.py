"""The environment variables that Kubernetes sets in every pod for each Service of the namespace.

A Service `callboard` gives `CALLBOARD_PORT=tcp://10.0.0.1:8787`, `CALLBOARD_SERVICE_HOST` and others; a
Service `callboard-api` gives `CALLBOARD_API_PORT` and others. They are no settings.
"""

import re
from typing import Final

_SERVICE: Final = r"CALLBOARD(?:_[A-Z0-9]+)*"
_NAME: Final = re.compile(
    rf"{_SERVICE}_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*"
    r"|PORT_[0-9]{1,5}_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_PORT_NAME: Final = re.compile(rf"{_SERVICE}_PORT")
_PORT_VALUE: Final = re.compile(r"(?:tcp|udp|sctp)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def is_service_variable(name: str, value: str) -> bool:
    """Return whether a variable has a name and a value as Kubernetes sets them for a Service.

    A name that may be a setting (`CALLBOARD_PORT`, `CALLBOARD_METRICS_PORT`) is one only with a value such as
    `tcp://10.0.0.1:8787`.
    """
    if _NAME.fullmatch(name):
        return True
    return _PORT_NAME.fullmatch(name) is not None and _PORT_VALUE.fullmatch(value) is not None
