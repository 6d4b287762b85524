"""A running API and its client over real HTTP, which can also send raw bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from tests.support.waiting import LONGEST_WAIT, soon
from tracker.api.app import running
from tracker.config import Settings
from tracker.domain.operation import Json

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

COLLECTION = "/communications/calls/call-1/operations"
AN_HOUR = 3600
"""Seconds of a wait that does not end within a test."""
TYPE = "#microsoft.graph.commsOperation"
DOCUMENTED = b"""{
  "@odata.type": "#microsoft.graph.commsOperation",
  "status": "String",
  "clientContext": "Client Context value",
  "resultInfo": {
    "@odata.type": "microsoft.graph.ResultInfo",
    "code": 4,
    "subcode": 7,
    "message": "Message value"
  }
}
"""
"""The example body of Graph's documentation, letter by letter."""
REPRESENTATION = b"""{
  "@odata.type": "#microsoft.graph.commsOperation",
  "clientContext": "String",
  "resultInfo": {
    "@odata.type": "microsoft.graph.resultInfo"
  },
  "status": "String"
}
"""
"""The JSON representation of the resource in Graph's documentation, with its placeholders, sent as it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        assert self.headers["Content-Type"].startswith("application/json")
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> Json:
        """The error, after checking that the body is Graph's whole form of it."""
        error = self.json["error"]
        assert isinstance(error, dict)
        assert error["code"]
        assert error["message"]
        assert error["innerError"]["request-id"] == self.headers["request-id"]
        assert {"date", "client-request-id"} <= set(error["innerError"])
        return error


class Api:
    """A client of one running API, with the token of tenant `test` unless another is given."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "test-token",
        headers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Answer:
        """Send one request; `path` is sent as it is, percent-encoding included."""
        address = URL(path if path.startswith("http") else self.url + path, encoded=True)
        sent = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}
        async with self._session.request(method, address, headers=sent, allow_redirects=False, **kwargs) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **kwargs: Any) -> Answer:
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str = COLLECTION, **kwargs: Any) -> Answer:
        return await self.request("POST", path, **kwargs)

    async def delete(self, path: str, **kwargs: Any) -> Answer:
        return await self.request("DELETE", path, **kwargs)

    async def created(self, path: str = COLLECTION, **body: Any) -> Json:
        """Create an operation that must be accepted."""
        answer = await self.post(path, json=body)
        assert answer.status == 201
        return answer.json

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open response, which is read by its lines."""
        async with self._session.get(self.url + path, headers={"Authorization": "Bearer test-token"}) as response:
            assert response.status == HTTPStatus.OK
            yield response

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes until the server closes it."""
        async with self.connected() as (reader, writer):
            writer.write(data)
            await writer.drain()
            return await soon(reader.read())

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[Streams]:
        """A connection for bytes, which is aborted in the end. `options` are those of `asyncio.open_connection`."""
        url = URL(self.url)
        reader, writer = await asyncio.open_connection(url.host, url.port, **options)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@asynccontextmanager
async def open_api(settings: Settings, **changes: Any) -> AsyncIterator[Api]:
    """Run an API on a free port, with some settings changed."""
    changed = settings.model_copy(update={"port": 0, **changes})
    timeout = aiohttp.ClientTimeout(total=2 * LONGEST_WAIT)
    async with running(changed) as url, aiohttp.ClientSession(timeout=timeout) as session:
        yield Api(url, session)
