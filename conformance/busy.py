"""HTTP proxy that stands for a busy service: it refuses some requests as Graph does, and forwards all others."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

HOP_BY_HOP = {"connection", "content-encoding", "content-length", "date", "server", "transfer-encoding"}
"""Headers that are not forwarded. `Host` is forwarded, so that the links in an answer lead to this proxy again."""


@dataclass
class Busy:
    """The proxy. It answers the next requests with the statuses in `refusals`, and forwards all requests after them.

    With `lose` a refused request is forwarded too. The client then loses the tracker's answer, but not the effect of
    the request. `answered` holds the statuses of all answers since the last call of `refuse`.
    """

    behind: str
    refusals: list[int] = field(default_factory=list)
    lose: bool = False
    answered: list[int] = field(default_factory=list)
    url: str = ""

    def refuse(self, *statuses: int, lose: bool = False) -> None:
        """Refuse the next requests, each with one of the statuses."""
        self.refusals, self.lose, self.answered = list(statuses), lose, []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        refusal = self.refusals.pop(0) if self.refusals else None
        response = _busy(refusal) if refusal is not None and not self.lose else await self._forward(request)
        if refusal is not None:
            response = _busy(refusal)
        self.answered.append(response.status)
        return response

    async def _forward(self, request: web.Request) -> web.Response:
        url = URL(f"{self.behind}{request.raw_path}", encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=await request.read(), headers=_kept(request.headers)) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, headers=_kept(answer.headers))


@asynccontextmanager
async def busy_before(behind: str) -> AsyncIterator[Busy]:
    """Run a proxy before the tracker whose URL is `behind`."""
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
