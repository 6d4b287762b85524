"""Liveness and readiness of this process. Both are served without a token."""

from aiohttp import web

from tracker.api.guard import OPERATIONS


async def live(_: web.Request) -> web.Response:
    """Respond with 200. A process that is stuck sends no response."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Respond with 200 if operations can be accepted, else with 503.

    Redis must be reachable, have the scripts, and accept writes. At `maxmemory` it serves reads only.
    """
    await request.app[OPERATIONS].ready()
    return web.json_response({"status": "ready"})
