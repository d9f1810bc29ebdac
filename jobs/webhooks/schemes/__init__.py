"""How the senders of webhooks prove who they are: one small class per provider, by name in SCHEMES."""

from typing import Final

from callboard.jobs.webhooks.schemes.github import GitHub
from callboard.jobs.webhooks.schemes.scheme import Scheme, Verified
from callboard.jobs.webhooks.schemes.standard import StandardWebhooks

#: Every scheme a source may name; a new provider is a file here and a line in this table.
SCHEMES: Final[dict[str, Scheme]] = {scheme.name: scheme for scheme in (GitHub(), StandardWebhooks())}

__all__ = ["SCHEMES", "Scheme", "Verified"]
