"""The end of a request that waits."""

from fastapi import Request


async def client_disconnected(request: Request) -> None:
    """Return when the client has disconnected. The body must have been read before, or be empty."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
