"""The name of an actor's job: with the namespace of its application, which CALLBOARD_APP sets."""

from typing import Any

import dramatiq

from callboard.jobs.errors import InvalidInput
from callboard.jobs.model.basics.fields import is_job_name


def job_name(actor: dramatiq.Actor[..., Any]) -> str:
    """Return the name of the actor's job. Middleware sees the actor's own name."""
    from callboard.jobs.client import configured_app

    app = configured_app()
    options = getattr(actor, "job_options", None)
    if app is None or (options is not None and options.namespace is not None):
        return actor.actor_name
    return f"{app}.{actor.actor_name}"


def in_namespace(name: str, namespace: str | None) -> str:
    """Return the name in the namespace of a `@job`. Raises InvalidInput for a namespace that is none."""
    if namespace is None:
        return name
    full = f"{namespace}.{name}"
    if not isinstance(namespace, str) or "." in namespace or not is_job_name(full):
        raise InvalidInput(
            f"{namespace!r:.60} is not a namespace (letters, digits, _, : and -, no digit first, and at most"
            " 200 characters with the job's name)",
            fields={"namespace": "letters, digits, _, : and -"},
        )
    return full
