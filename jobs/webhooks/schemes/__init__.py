"""Webhook schemes: how a sender signs its requests. One class for each provider, by name in SCHEMES."""

from typing import Final

from callboard.jobs.webhooks.schemes.github import GitHub
from callboard.jobs.webhooks.schemes.scheme import Scheme, Verified
from callboard.jobs.webhooks.schemes.standard import StandardWebhooks

#: The schemes that a source can have. To add a provider, add a file here and an entry in this table.
SCHEMES: Final[dict[str, Scheme]] = {scheme.name: scheme for scheme in (GitHub(), StandardWebhooks())}

__all__ = ["SCHEMES", "Scheme", "Verified"]
