"""Routes for health, readiness, metrics, the OpenAPI document and the page that shows it."""

import hashlib
import re
from base64 import b64encode
from importlib.resources import files
from typing import Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY

from callboard.api.callers import metrics_reader
from callboard.api.openapi import error_responses, guarded_responses
from callboard.api.schemas import Health, ReadyState, reply
from callboard.api.services import AppServices
from callboard.config.exposition import MEDIA_TYPES, Exposition, expose

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
        503: {"model": ReadyState, "description": "jobs cannot be accepted now"},
    },
)
async def readyz(services: AppServices) -> Response:
    """Return 200 if jobs can be accepted, also while Redis is away: then the status is "degraded".

    503: the database is away, its tables are missing, or the API is stopping.
    """
    found = await services.readiness.current()
    state = ReadyState(status=found.status, checks=found.checks, degraded=found.degraded)
    return reply(state, 200 if found.accepts else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES}},
        **guarded_responses(),
    },
    dependencies=[metrics_reader],
)
async def metrics(request: Request, services: AppServices) -> Response:
    """Return the metrics of this process for Prometheus.

    A restricted key may not read them. With the setting CALLBOARD_METRICS_OPEN, nobody needs
    a key.
    """
    found = await to_thread.run_sync(_expose, request, limiter=services.scrapes)
    return Response(found.body, headers=found.headers)


def _expose(request: Request) -> Exposition:
    headers = request.headers
    return expose(
        REGISTRY,
        accept=", ".join(headers.getlist("accept")),
        accept_encoding=", ".join(headers.getlist("accept-encoding")),
    )


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    return Response(request.app.state.openapi(), media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return Response(_PAGE, media_type="text/html", headers=_PAGE_HEADERS)
