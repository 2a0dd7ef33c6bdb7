"""Errors as RFC 9457 problem+json: each FoundryError, validation failures, framework errors, a database that is away.

What it does not know: nouns. An unforeseen exception is logged with its traceback and answered as 500 without detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from foundry.errors import (
    Conflict,
    FoundryError,
    InvalidParameter,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from foundry.types.control import FieldError, Problem

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
_DATABASE_RETRY_S = 1.0
_INTERNAL_ERROR = 500


def problem_response(
    error: FoundryError,
    request_id: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The error as a response."""
    problem = Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.message,
        code=error.code,
        request_id=request_id,
        param=error.param,
        errors=tuple(errors),
    )
    extra = dict(headers or {})
    if error.retry_after_s is not None:
        extra["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        extra["WWW-Authenticate"] = "Bearer"
    body = problem.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
    return JSONResponse(body, status_code=error.status, media_type=MEDIA_TYPE, headers=extra)


def _request_id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


async def _on_foundry_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FoundryError)  # noqa: S101 - the registration above guarantees it -- registered for this class only
    if error.status >= _INTERNAL_ERROR:
        log.warning("request_failed", code=error.code, detail=error.message)
    return problem_response(error, _request_id(request))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration above guarantees it
    details: Sequence[Any] = error.errors()  # pydantic's error dicts
    if any(item["type"] == "json_invalid" for item in details):
        return problem_response(
            MalformedBody("the body is not JSON: send one JSON object"), _request_id(request)
        )
    fields = [
        FieldError(location=".".join(str(part) for part in item["loc"]), message=item["msg"])
        for item in details
    ]
    first = fields[0]
    rest = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    failure = InvalidParameter(f"{first.location}: {first.message}{rest}", param=first.location)
    return problem_response(failure, _request_id(request), errors=fields)


def _from_http(error: HTTPException, request: Request) -> FoundryError:
    if isinstance(error.__cause__, FoundryError):  # raised while the framework read the body, which wraps it
        return error.__cause__
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(f"no such path: {request.url.path}; the paths are in /openapi.json")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}")
    if error.status_code == HTTPStatus.FORBIDDEN:
        return PermissionDenied(str(error.detail))
    return InvalidRequest(str(error.detail))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - the registration above guarantees it
    return problem_response(
        _from_http(error, request), _request_id(request), headers=dict(error.headers or {})
    )


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, IntegrityError):
        log.info("integrity_conflict", error=str(error.orig))
        return problem_response(
            Conflict("another request changed the same object: read it again and retry"), _request_id(request)
        )
    if isinstance(error, DataError):
        refusal = InvalidParameter(
            "a value cannot be stored: it holds a NUL character or a number out of range"
        )
        return problem_response(refusal, _request_id(request))
    log.warning("database_unavailable", error=str(error))
    failure = Unavailable("the database does not answer: retry shortly", retry_after_s=_DATABASE_RETRY_S)
    return problem_response(failure, _request_id(request))


async def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("unforeseen_error", path=request.url.path, exc_info=error)
    return problem_response(
        FoundryError("an internal error; the log has it under this request id"), _request_id(request)
    )


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(FoundryError, _on_foundry_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in (IntegrityError, DataError, OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _on_database_error)
    app.add_exception_handler(DBAPIError, _on_unforeseen)
    app.add_exception_handler(Exception, _on_unforeseen)
