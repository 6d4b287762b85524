"""HTTP responses for errors, with Graph's error body. The status of each class of errors is decided here only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import ClientConnectionResetError, hdrs, web
from redis.exceptions import RedisError

from tracker import errors
from tracker.api.idempotency import result_headers
from tracker.errors import status_word
from tracker.json_codec import encode

log = structlog.get_logger()

HTTP_STATUS: Mapping[type[errors.TrackerError], HTTPStatus] = {
    errors.Invalid: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Gone: HTTPStatus.GONE,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    errors.PreconditionRequired: HTTPStatus.PRECONDITION_REQUIRED,
    errors.TimedOut: HTTPStatus.REQUEST_TIMEOUT,
    errors.PayloadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UriTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.HeaderFieldsTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.FailedDependency: HTTPStatus.FAILED_DEPENDENCY,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TrackerError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

REASON: Final = web.RequestKey("reason", str)
"""The message of the error with which a request was answered, for the log."""

UNEXPECTED_ERROR = "The server has failed. Quote the request-id when you report it."
STORE_UNREACHABLE = "The store cannot be reached. Try again."


@dataclass(frozen=True, slots=True)
class RequestIds:
    """The service's id of a request, and the client's id of the request, if the client sent a valid id."""

    request: str
    client: str | None = None


IDS: Final = web.RequestKey("ids", RequestIds)
"""The ids of a request that is handled. A handler that sends its response itself sends these."""


def status_of(error: errors.TrackerError) -> HTTPStatus:
    """The HTTP status of a deliberate error: its own class's, else the nearest base's."""
    return next(HTTP_STATUS[base] for base in type(error).__mro__ if base in HTTP_STATUS)


def headers_of(error: errors.TrackerError) -> dict[str, str]:
    """The headers that belong to a deliberate error."""
    match error:
        case errors.Unauthorized():
            return {hdrs.WWW_AUTHENTICATE: "Bearer"}
        case errors.Unavailable() | errors.TooManyRequests():
            return {hdrs.RETRY_AFTER: str(error.retry_after)}
        case _:
            return {}


def keep_reason(request: web.BaseRequest, error: errors.TrackerError | web.HTTPException) -> None:
    """Keep the message of a deliberate error for the log."""
    request[REASON] = error.message if isinstance(error, errors.TrackerError) else error.text or error.reason


def response_for(error: Exception, request: web.BaseRequest, ids: RequestIds) -> web.Response:
    """The response for any exception. An unexpected one is logged, and its text is not sent to the client.

    Raises the exception if it says that the client is gone.
    """
    if isinstance(error, errors.TrackerError | web.HTTPException):
        keep_reason(request, error)
    match error:
        case errors.TrackerError():
            return _response_for_deliberate(error, request, ids)
        case web.HTTPException():
            return _response_for_aiohttp(error, request, ids)
        case ClientConnectionResetError():
            raise error
        case RedisError():
            log.error("redis_error_escaped", exc_info=error, **_log_fields(request, ids))
            return error_response(
                HTTPStatus.SERVICE_UNAVAILABLE, STORE_UNREACHABLE, ids, headers={hdrs.RETRY_AFTER: "1"}
            )
        case _:
            log.error("request_failed", exc_info=error, **_log_fields(request, ids))
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED_ERROR, ids)


def error_response(
    status: int,
    message: str,
    ids: RequestIds,
    *,
    headers: Mapping[str, str] | None = None,
    target: str | None = None,
    details: tuple[errors.Detail, ...] = (),
) -> web.Response:
    """A response with Graph's error body."""
    error: dict[str, Any] = {"code": status_word(status), "message": message}
    if target is not None:
        error["target"] = target
    if details:
        error["details"] = [_detail(item) for item in details]
    error["innerError"] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "request-id": ids.request,
        "client-request-id": ids.client or ids.request,
    }
    return web.Response(body=encode({"error": error}), status=status, headers=headers, content_type="application/json")


def _response_for_deliberate(error: errors.TrackerError, request: web.BaseRequest, ids: RequestIds) -> web.Response:
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", exc_info=error, **_log_fields(request, ids))
        return error_response(status, UNEXPECTED_ERROR, ids)
    headers = {**headers_of(error), **result_headers(request, error)}
    return error_response(status, error.message, ids, headers=headers, target=error.target, details=error.details)


def _response_for_aiohttp(error: web.HTTPException, request: web.BaseRequest, ids: RequestIds) -> web.Response:
    match error:
        case web.HTTPNotFound():
            return error_response(error.status, "There is nothing at this path.", ids)
        case web.HTTPMethodNotAllowed():
            message = f"{request.method} is not allowed at this path."
            return error_response(error.status, message, ids, headers={hdrs.ALLOW: error.headers[hdrs.ALLOW]})
        case web.HTTPRequestEntityTooLarge():
            return error_response(error.status, "The body is too large.", ids)
        case _:
            return error_response(error.status, error.text or error.reason, ids)


def _detail(item: errors.Detail) -> dict[str, str]:
    detail = {"code": item.code, "message": item.message}
    return detail if item.target is None else {**detail, "target": item.target}


def _log_fields(request: web.BaseRequest, ids: RequestIds) -> dict[str, Any]:
    return {"request_id": ids.request, "method": request.method, "path": request.path}
