"""A stand-in for a busy service: stands before the tracker and refuses some requests as Graph does."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

HOP_BY_HOP = {"connection", "content-encoding", "content-length", "date", "server", "transfer-encoding"}
"""Not handed on. `Host` is: so the links in an answer lead here again."""


@dataclass
class Busy:
    """Refuses the next requests with `refusals`, one each, and hands all others on.

    With `lose` a refused request is handed on too and only its answer is lost: what it did is done.
    """

    behind: str
    refusals: list[int] = field(default_factory=list)
    lose: bool = False
    answered: list[int] = field(default_factory=list)
    url: str = ""

    def refuse(self, *statuses: int, lose: bool = False) -> None:
        """Refuse that many requests from now on."""
        self.refusals, self.lose, self.answered = list(statuses), lose, []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        refusal = self.refusals.pop(0) if self.refusals else None
        response = _busy(refusal) if refusal is not None and not self.lose else await self._hand_on(request)
        if refusal is not None:
            response = _busy(refusal)
        self.answered.append(response.status)
        return response

    async def _hand_on(self, request: web.Request) -> web.Response:
        url = URL(f"{self.behind}{request.raw_path}", encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=await request.read(), headers=_kept(request.headers)) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, headers=_kept(answer.headers))


@asynccontextmanager
async def busy_before(behind: str) -> AsyncIterator[Busy]:
    """Listen before the tracker at that URL."""
    busy = Busy(behind)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", busy.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        busy.url = f"http://127.0.0.1:{site.port}"
        yield busy
    finally:
        await runner.cleanup()


def _busy(status: int) -> web.Response:
    error = {"error": {"code": "tooManyRequests", "message": "Too busy."}}
    return web.json_response(error, status=status, headers={"Retry-After": "1"})


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
