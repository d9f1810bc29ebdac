"""sentry-sdk: `init` in the module of the jobs, with the default broker; errors are reported."""

import os

import dramatiq
import sentry_sdk
from sentry_sdk.integrations.dramatiq import DramatiqIntegration
from sentry_sdk.transport import Transport


class FileTransport(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            with open(os.environ["GUEST_NOTES"], "a") as file:
                file.write(f"{event.get('transaction')} {event['exception']['values'][-1]['value']}\n")


sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", integrations=[DramatiqIntegration()], transport=FileTransport)


@dramatiq.actor(max_retries=0)
def sentry_fails():
    raise ValueError("reported")


@dramatiq.actor(max_retries=0)
async def sentry_fails_async():
    raise ValueError("reported too")
