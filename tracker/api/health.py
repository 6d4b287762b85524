"""Liveness and readiness of this process. Both are served without a token."""

from aiohttp import web

from tracker.api.guard import OPERATIONS


async def live(_: web.Request) -> web.Response:
    """Respond with 200. A process that is stuck sends no response."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Respond with 200 if Redis is reachable and has the scripts, else with 503: no operation can be accepted."""
    await request.app[OPERATIONS].ready()
    return web.json_response({"status": "ready"})
