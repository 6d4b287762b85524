"""Handlers that are URLs: each attempt is one signed POST, and its response is the outcome.

URLs come from code and settings only, never from a client. So they may name any host.
"""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Unpack

from pydantic import Field, JsonValue, create_model

from tracker.config import Settings, load
from tracker.domain.operation import Operation, OperationStatus, ResultInfo
from tracker.domain.policy import PolicyOptions
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import Context, Exceptions, TypeRegistry, canonical, handles
from tracker.durations import Duration, seconds
from tracker.errors import ConfigurationError
from tracker.url_handlers import signing
from tracker.url_handlers.response import ANSWER_LIMIT, HandlerResponse, HandlerUnreachable, outcome

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

CONNECTIONS = 100
"""How many requests a process has open at once at most. Further requests wait, and the wait counts as time of the
attempt."""
CONNECT_SECONDS = 10.0
"""The longest time to connect, in seconds."""
REQUEST_ONLY_MEMBERS = frozenset({"callId", "idempotencyKey"})
"""Members that a request to a handler has and an operation in the API does not."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where operations of one type are posted, and the keys that sign the requests.

    `timeout`: the longest time of one request, in seconds. None: a request may take as long as its attempt.
    """

    type: str
    url: "URL"
    keys: Sequence[bytes]
    timeout: float | None


def handles_url(
    model: type[Operation],
    url: str,
    *,
    secret: str | Iterable[str] = (),
    timeout: Duration | None = None,
    retry_on: Exceptions = (),
    never_retry: Exceptions = (),
    **policy: Unpack[PolicyOptions],
) -> None:
    """Make an http or https URL the handler of the operation type `model`. docs/url-handlers.md describes the requests.

    `secret` signs the requests: a text `whsec_…`, or the old and the new one while you replace a secret. The default is
    the type's secrets in TRACKER_URL_SECRETS. `timeout` is the longest time that one request may take; the default is
    `run_within`. The other options are those of `handles`.

    Raises ConfigurationError for a URL, a secret or an option that is not valid.
    """
    name = model.odata_type
    limit = None if timeout is None else seconds(timeout)
    if limit is not None and not 0 < limit < math.inf:
        raise ConfigurationError(f"{name}: timeout must be more than 0, and finite")
    if taken := REQUEST_ONLY_MEMBERS & {info.alias or field for field, info in model.model_fields.items()}:
        raise ConfigurationError(f"{name}: {', '.join(sorted(taken))} is a member of every request already")
    secrets = (secret,) if isinstance(secret, str) else secret
    endpoint = Endpoint(name, _target(url, name), [signing.key_of(each, owner=name) for each in secrets], limit)

    async def post(operation: Operation, context: Context) -> ResultInfo | None:
        return outcome(await _exchange(endpoint, operation, context), operation)

    post.__module__, post.__name__, post.__qualname__ = model.__module__, model.__name__, model.__qualname__
    handles(model, retry_on=retry_on, never_retry=never_retry, **policy)(post)


def load_registry(settings: Settings) -> TypeRegistry:
    """Load all operation types: those of the modules in TRACKER_TYPES, and those in TRACKER_URL_HANDLERS.

    The API and the workers call this function, so they have the same types. Raises ConfigurationError.
    """
    registry = load_types(settings.type_modules)
    declare_url_types(settings)
    return registry


def declare_url_types(settings: Settings) -> None:
    """Declare a type for each entry of TRACKER_URL_HANDLERS (`name=url`).

    Such a type accepts any members. It has one result member, `result`, which is any JSON value. Raises
    ConfigurationError for an entry or a secret that cannot be used, and for a type that a class declares already.
    """
    _configured_keys(settings)
    names: set[str] = set()
    for word in settings.url_handlers:
        name, _, url = (part.strip() for part in word.partition("="))
        if canonical(name) in names:
            raise ConfigurationError(f"TRACKER_URL_HANDLERS: {name} is given twice")
        names.add(canonical(name))
        try:
            handles_url(_open_type(name), url)
        except ConfigurationError as error:
            raise ConfigurationError(f"TRACKER_URL_HANDLERS: {error.message}") from error


def _open_type(name: str) -> type[Operation]:
    """Make a type for a name. No class declares its members, so it accepts any."""
    result = Field(None, json_schema_extra={"readOnly": True}, description="What the URL handler answered.")
    return create_model(
        name.removeprefix("#"), __base__=Operation, __cls_kwargs__={"type": name}, result=(JsonValue, result)
    )


def _target(url: str, owner: str) -> "URL":
    """Parse the URL of a handler. Raises ConfigurationError if no request can be sent to it.

    The message does not quote the URL, because the URL may hold credentials.
    """
    from yarl import URL  # noqa: PLC0415 - heavy, needed for these types only

    try:
        target = URL(url)
    except ValueError:
        raise ConfigurationError(f"{owner}: the URL is malformed") from None
    if target.user is not None or target.password is not None:
        raise ConfigurationError(f"{owner}: the URL may not hold credentials; requests are signed instead")
    if target.scheme not in {"http", "https"} or not target.host:
        raise ConfigurationError(f"{owner}: the URL must start with http:// or https:// and name a host")
    return target


def _configured_keys(settings: Settings) -> list[tuple[str, bytes]]:
    """The keys in TRACKER_URL_SECRETS, each with the name of its type.

    The name is "" for a key that serves all types without keys of their own.
    """
    keys = []
    for word in settings.url_secrets:
        name, _, secret = ("", "", word) if word.startswith(signing.PREFIX) else word.partition("=")
        keys.append((canonical(name.strip()), signing.key_of(secret.strip(), owner="TRACKER_URL_SECRETS")))
    return keys


@cache
def _keys_from_settings(type_name: str) -> Sequence[bytes]:
    """The keys from TRACKER_URL_SECRETS for a type. They sign when `handles_url` was given no secret for it.

    A process reads the setting once for each type, at its first request.
    """
    keys = _configured_keys(load())
    own = [key for name, key in keys if name == canonical(type_name)]
    return own or [key for name, key in keys if not name]


def _body(operation: Operation, context: Context) -> bytes:
    """The body of a request: the operation as the API shows it, and data of this attempt."""
    fixed = {
        "@odata.type": operation.odata_type,
        "id": context.operation_id,
        "callId": context.call_id,
        "status": OperationStatus.RUNNING,
        "clientContext": operation.client_context,
        "attempt": context.attempt,
        "idempotencyKey": context.idempotency_key,
    }
    members = operation.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # `fixed` stands first to be first in the text, and last because no member of the operation may replace its values
    return json.dumps({**fixed, **members, **fixed}, allow_nan=False, separators=(",", ":")).encode()


async def _exchange(endpoint: Endpoint, operation: Operation, context: Context) -> HandlerResponse:
    """Post the operation and read the response.

    Raises HandlerUnreachable. Cancelling this call closes the connection.
    """
    from aiohttp import ClientError  # noqa: PLC0415 - heavy, needed here only

    body, key = _body(operation, context), context.idempotency_key
    signed = signing.headers(endpoint.keys or _keys_from_settings(endpoint.type), key, body)
    session = await _session()
    request = session.post(
        endpoint.url,
        data=body,
        headers={"Content-Type": "application/json", "Idempotency-Key": key, **signed},
        allow_redirects=False,
    )
    try:
        async with asyncio.timeout(endpoint.timeout), request as response:
            return await _read(response)
    except ClientError as error:
        reason = type(error).__name__
        raise HandlerUnreachable(f"The URL handler cannot be reached, or the connection broke ({reason}).") from error
    except TimeoutError:
        raise HandlerUnreachable("The URL handler did not answer in time.") from None


async def _read(response: "ClientResponse") -> HandlerResponse:
    """Read a response.

    A body of more than ANSWER_LIMIT bytes is cut to ANSWER_LIMIT + 1 bytes, so `outcome` sees that it is too long.
    """
    body = bytearray()
    async for chunk in response.content.iter_chunked(ANSWER_LIMIT):
        body += chunk
        if len(body) > ANSWER_LIMIT:
            break
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    retry_after = response.headers.get("Retry-After", "")
    return HandlerResponse(response.status, media_type, retry_after, bytes(body[: ANSWER_LIMIT + 1]))


_SESSIONS: "dict[asyncio.AbstractEventLoop, tuple[ClientSession, AsyncGenerator[None]]]" = {}


async def _session() -> "ClientSession":
    """The HTTP session of the running event loop, opened at the first call and closed when the loop ends.

    A connection serves one request only: a server may close a kept connection while the next POST is on its way, and
    that attempt would fail. The session stores no cookies and ignores proxies named in the environment. It asks for
    uncompressed responses, because a small compressed response can unpack into a very large one.
    """
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector  # noqa: PLC0415 - heavy, needed here only

    loop = asyncio.get_running_loop()
    if loop not in _SESSIONS:
        session = ClientSession(
            connector=TCPConnector(limit=CONNECTIONS, force_close=True),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "operation-tracker"},
        )
        _SESSIONS[loop] = session, _close_with_loop(session)
        await anext(_SESSIONS[loop][1])
    return _SESSIONS[loop][0]


async def _close_with_loop(session: "ClientSession") -> AsyncGenerator[None]:
    """Close the session when the loop ends. `asyncio.run` closes open asynchronous generators then, and so this one."""
    try:
        yield
    finally:
        del _SESSIONS[asyncio.get_running_loop()]
        await session.close()
