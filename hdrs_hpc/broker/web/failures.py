"""Every failure leaves as ``{"error": {kind, code, message, where, remedy, retry}}`` with its kind's status."""

from __future__ import annotations

import logging
import traceback

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hdrs_hpc.core.errors import HdrsError, InternalError, NotFoundError, UsageError

_log = logging.getLogger("hdrs_hpc.web")


def install(app: FastAPI) -> None:
    app.add_exception_handler(HdrsError, _known)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _http)


def as_response(error: HdrsError) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else None
    return JSONResponse({"error": error.as_dict()}, status_code=error.http_status, headers=headers)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HdrsError)
    if isinstance(error, InternalError):
        _note(error)
        return as_response(InternalError())
    return as_response(error)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    return as_response(UsageError(f"{where}: {first['msg']}", where=where))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return as_response(UsageError("this address does not take this method"))
    return as_response(NotFoundError("there is nothing at this address"))


def bug(error: Exception) -> JSONResponse:
    """The answer to what nobody foresaw."""
    _note(error)
    return as_response(InternalError())


def _note(error: Exception) -> None:
    """Where it broke, never its words: an exception of a library may quote what it was given."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("our bug, %s:\n%s", type(error).__name__, frames)
