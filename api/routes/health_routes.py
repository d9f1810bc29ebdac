"""Routes for health, readiness, metrics, the OpenAPI document and the page that shows it."""

import hashlib
import re
from base64 import b64encode
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from callboard.api.openapi import error_responses
from callboard.api.readiness import OK
from callboard.api.schemas import Health, ReadyState, reply
from callboard.api.services import AppServices

router = APIRouter(tags=["service"])

_PAGE: Final = (files("callboard.api") / "static" / "docs.html").read_bytes()


def _policy(page: bytes) -> str:
    """Return a Content-Security-Policy that allows only the page's own script and style."""
    script, style = (
        b64encode(
            hashlib.sha256(re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)[0]).digest()
        ).decode()
        for tag in (b"script", b"style")
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_PAGE_HEADERS: Final = {"Content-Security-Policy": _policy(_PAGE), "Cache-Control": "no-cache"}


@router.get("/healthz", response_model=Health, responses=error_responses())
async def healthz() -> Response:
    """Return 200 if the process is alive. Does not check the services it needs."""
    return reply(Health(status="ok"))


@router.get(
    "/readyz",
    response_model=ReadyState,
    responses={
        **error_responses(),
        503: {"model": ReadyState, "description": "a service that is needed is unavailable"},
    },
)
def readyz(services: AppServices) -> Response:
    """Check the database, its tables and Redis. Without Redis jobs are still accepted, and run later."""
    checks = services.readiness.checks()
    ready = set(checks.values()) == {OK}
    return reply(ReadyState(status="ready" if ready else "unavailable", checks=checks), 200 if ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **error_responses()},
)
def metrics() -> Response:
    """Return the metrics of this process for Prometheus."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    return Response(request.app.state.openapi(), media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return Response(_PAGE, media_type="text/html", headers=_PAGE_HEADERS)
