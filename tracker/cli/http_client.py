"""The HTTP client of the command line."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from tracker.cli.output import CommandFailed, Exit, Json

Headers = Mapping[str, str]
Show = Callable[[Json], None]

FINAL = frozenset({"Completed", "Failed"})
MAX_WAIT = 30
"""The longest `Prefer: wait` of one request, in seconds."""
RESPONSE_WITHIN = 30.0
"""The longest time until a response, in seconds, beside the `wait` of the request."""
PAUSE = 1.0
"""The shortest time between two reads of an operation that has not changed, in seconds."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A successful response of the server."""

    status: int
    headers: Headers
    body: Json


class Client:
    """An HTTP client for one server. Use it as an asynchronous context manager."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=RESPONSE_WITHIN + MAX_WAIT)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def create(self, call_id: str, operation: Json) -> Json:
        """Create an operation; returns it."""
        return (await self._send("POST", _path(call_id), body=operation)).body

    async def get(self, call_id: str, operation_id: str) -> Json:
        """Return an operation."""
        return (await self._send("GET", _path(call_id, operation_id))).body

    async def list(self, call_id: str, wanted: Mapping[str, str | None], top: int) -> Json:
        """Return the first page of a call's operations whose members equal the wanted ones, newest first."""
        tests = [f"{name} eq {_literal(value)}" for name, value in wanted.items() if value is not None]
        query = {"$top": str(top)} | ({"$filter": " and ".join(tests)} if tests else {})
        return (await self._send("GET", _path(call_id), query=query)).body

    async def cancel(self, call_id: str, operation_id: str, reason: str | None) -> Json:
        """Ask an operation to stop; returns it."""
        body = {} if reason is None else {"reason": reason}
        return (await self._send("POST", f"{_path(call_id, operation_id)}/cancel", body=body)).body

    async def wait(self, call_id: str, operation_id: str, seconds: float, show: Show) -> Json:
        """Follow an operation until it is final. `show` is called with every state. Returns the last state.

        A server that is away is asked again until the time is up. Raises CommandFailed: TIMED_OUT when the operation is
        not final in time, UNREACHABLE when the server is away at that moment, NOT_FOUND, REFUSED.
        """
        loop = asyncio.get_running_loop()
        end, etag = loop.time() + seconds, None
        while True:
            asked = loop.time()
            reply = None
            try:
                reply = await self._changed(_path(call_id, operation_id), etag, end - asked)
            except CommandFailed as failure:
                if failure.code is not Exit.UNREACHABLE or asked >= end:
                    raise
            if reply is not None:
                etag = reply.headers.get("ETag")
                show(reply.body)
                if reply.body.get("status") in FINAL:
                    return reply.body
            if asked >= end:
                raise CommandFailed(Exit.TIMED_OUT, f"{operation_id} is not final after {seconds:g} seconds")
            if reply is None or etag is None:  # the server is away, or gives no ETag to wait with
                await asyncio.sleep(min(end, asked + PAUSE) - loop.time())

    async def _changed(self, path: str, etag: str | None, left: float) -> HttpReply | None:
        """Return the operation if its ETag differs from `etag`, or if the operation changes during the wait."""
        wait = int(min(MAX_WAIT, left))
        headers = {"Prefer": f"wait={wait}"} if wait > 0 else {}
        reply = await self._send("GET", path, headers=headers | ({"If-None-Match": etag} if etag else {}))
        return None if reply.status == HTTPStatus.NOT_MODIFIED else reply

    async def _send(
        self, method: str, path: str, *, body: Any = None, query: Headers | None = None, headers: Headers | None = None
    ) -> HttpReply:
        """Send one request.

        Raises CommandFailed: UNREACHABLE when there is no response or a 5xx, NOT_FOUND for 404 and 410, REFUSED for the
        other 4xx. The message of a response is the server's own.
        """
        try:
            url = URL(f"{self._url}/v1.0{path}", encoded=True).update_query(query or {})
            async with self._session.request(method, url, json=body, headers=headers) as response:
                return HttpReply(response.status, response.headers, await _read(response))
        except (aiohttp.NonHttpUrlClientError, ValueError):  # a malformed URL, or a token with a line break
            raise CommandFailed(Exit.USAGE, f"the URL {self._url} or the token is malformed") from None
        except aiohttp.ClientConnectorError as error:
            hint = "is it running (`tracker dev`, `tracker serve`), and is TRACKER_URL its address?"
            raise CommandFailed(
                Exit.UNREACHABLE, f"{self._url} does not answer: {error.strerror or error}; {hint}"
            ) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandFailed(Exit.UNREACHABLE, f"{self._url}: {str(error) or type(error).__name__}") from None


def _path(call_id: str, operation_id: str | None = None) -> str:
    """Return the path of a call's operations, or of one of them."""
    path = f"/communications/calls/{quote(call_id, safe='')}/operations"
    return path if operation_id is None else f"{path}/{quote(operation_id, safe='')}"


def _literal(text: str) -> str:
    """Quote a string as OData does (a quote is doubled)."""
    return "'" + text.replace("'", "''") + "'"


async def _read(response: aiohttp.ClientResponse) -> Json:
    """The JSON object of a response. Raises CommandFailed for an error status."""
    try:
        body = await response.json(content_type=None)
    except ValueError:
        body = None
    if response.status < HTTPStatus.BAD_REQUEST:
        return body if isinstance(body, dict) else {}
    message = f"{response.status} {response.reason}: {_message(body)}"
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise CommandFailed(Exit.UNREACHABLE, f"the server cannot serve the request now: {message}")
    missing = response.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
    raise CommandFailed(Exit.NOT_FOUND if missing else Exit.REFUSED, message)


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "no error message"
    details = [f"{item.get('target')}: {item.get('message')}" for item in error.get("details") or ()]
    message = str(error.get("message"))
    return "; ".join([message, *(detail for detail in details if detail != message)])
