"""The parameters that URLs of Postgres and Redis may have after the question mark, and their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ParameterForm:
    """Which values a parameter accepts, and how an error names them."""

    pattern: re.Pattern[str]
    name: str

    def accepts(self, value: str) -> bool:
        return self.pattern.fullmatch(value) is not None


def _one_of(*values: str) -> ParameterForm:
    return ParameterForm(re.compile("|".join(map(re.escape, values))), f"one of {', '.join(values)}")


_TEXT: Final = ParameterForm(re.compile(r".*", re.DOTALL), "a text")
_NUMBER: Final = ParameterForm(re.compile(r"[0-9]{1,9}", re.ASCII), "a whole number")
_0_OR_1: Final = _one_of("0", "1")
_YES_OR_NO: Final = ParameterForm(re.compile("true|false|yes|no|1|0", re.IGNORECASE), "true or false")

#: Parameters of libpq. `replication` is left out: such a connection runs no ordinary statements.
POSTGRES_PARAMETERS: Final[Mapping[str, ParameterForm]] = {
    **dict.fromkeys(
        [
            "user", "password", "dbname", "host", "hostaddr", "port", "options", "application_name",
            "fallback_application_name", "service", "servicefile", "passfile", "sslcert", "sslkey",
            "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslkeylogfile", "requirepeer",
            "require_auth", "min_protocol_version", "max_protocol_version", "ssl_min_protocol_version",
            "ssl_max_protocol_version", "krbsrvname", "gsslib", "scram_client_key", "scram_server_key",
            "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope",
        ],
        _TEXT,
    ),
    **dict.fromkeys(
        [
            "connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
            "tcp_user_timeout",
        ],
        _NUMBER,
    ),
    **dict.fromkeys(["keepalives", "sslcompression", "sslsni", "gssdelegation"], _0_OR_1),
    "channel_binding": _one_of("disable", "prefer", "require"),
    "client_encoding": _one_of("utf8", "UTF8", "utf-8", "UTF-8", "unicode"),
    "gssencmode": _one_of("disable", "prefer", "require"),
    "load_balance_hosts": _one_of("disable", "random"),
    "sslcertmode": _one_of("disable", "allow", "require"),
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": _one_of("postgres", "direct"),
    "target_session_attrs": _one_of(
        "any", "read-write", "read-only", "primary", "standby", "prefer-standby"
    ),
}  # fmt: skip

TLS_PREFIX: Final = "ssl_"
SENTINEL_PREFIX: Final = "sentinel_"
#: Parameters of redis-py that say where Redis is and who asks. Those of the Sentinels begin with `sentinel_`.
REDIS_PARAMETERS: Final[Mapping[str, ParameterForm]] = {
    **dict.fromkeys(
        [
            "username", "password", "client_name", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data",
            "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_ciphers", "sentinel_username",
            "sentinel_password",
        ],
        _TEXT,
    ),
    "db": _NUMBER,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_check_hostname": _YES_OR_NO,
    "ssl_min_version": _NUMBER,
}  # fmt: skip
#: Parameters of redis-py that would change how the platform talks to Redis.
REDIS_RESERVED: Final = frozenset(
    [
        "decode_responses", "encoding", "encoding_errors", "health_check_interval", "legacy_responses",
        "max_connections", "protocol", "retry_on_error", "retry_on_timeout", "socket_connect_timeout",
        "socket_keepalive", "socket_read_size", "socket_timeout", "timeout",
    ]
)  # fmt: skip
