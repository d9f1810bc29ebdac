"""Middleware that a program adds to Dramatiq's defaults, with an option of its own; the default broker."""

import dramatiq
from dramatiq.middleware import Middleware, SkipMessage, default_middleware


class Tenants(Middleware):
    actor_options = {"tenant"}

    def before_process_message(self, broker, message):
        if broker.get_actor(message.actor_name).options.get("tenant") == "closed":
            raise SkipMessage("closed")


default_middleware.append(Tenants)


@dramatiq.actor(tenant="open")
def tenant_open():
    return "ran"


@dramatiq.actor(tenant="closed")
def tenant_closed():
    return "ran"
