"""The FastAPI application: routers, failures, and an access log that says nothing about content."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from hdrs_hpc import __version__
from hdrs_hpc.broker.web import failures, hosts, models
from hdrs_hpc.broker.web.dependencies import Web
from hdrs_hpc.broker.web.routers import (
    about,
    audit,
    clusters,
    datasets,
    filing,
    jobs,
    login,
    opt_outs,
    projects,
    reviews,
    uploads,
)

_access = logging.getLogger("hdrs_hpc.access")
_FAILURES: dict[int | str, dict[str, object]] = {
    "4XX": {"model": models.Failed},
    "5XX": {"model": models.Failed},
}


def create(web: Web) -> FastAPI:
    """The application of one broker."""
    app = routes()
    app.state.web = web
    app.state.hosts = hosts.answered(web.settings)
    return app


def routes() -> FastAPI:
    """The application without a broker behind it: enough to tell its OpenAPI document."""
    app = FastAPI(
        title="hdrs-hpc broker",
        version=__version__,
        summary="Signed documents in, views out.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    failures.install(app)
    for module in (
        about,
        login,
        filing,
        uploads,
        projects,
        datasets,
        clusters,
        opt_outs,
        jobs,
        reviews,
        audit,
    ):
        app.include_router(module.router, prefix="/v1", responses=_FAILURES)
    app.include_router(about.health)
    app.middleware("http")(_check_host)
    app.middleware("http")(_log_access)
    return app


async def _check_host(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        hosts.check(request.app.state.hosts, request.headers.getlist("host"))
    except hosts.HostUnknownError as error:
        return failures.as_response(error)
    return await call_next(request)


async def _log_access(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Method, address template, status, time and person: never a name, query or body that was sent."""
    begun = time.monotonic()
    try:
        response = await call_next(request)
    except Exception as error:
        # Whatever gets this far would be logged by the server with its message, which may quote a document.
        response = failures.bug(error)
    route = request.scope.get("route")
    _access.info(
        "%s %s %d %.0fms %s",
        request.method,
        getattr(route, "path", "(no route)"),
        response.status_code,
        (time.monotonic() - begun) * 1000,
        getattr(request.state, "person", "-"),
    )
    response.headers["Cache-Control"] = "no-store"
    return response
