"""Liveness and readiness of this process. Both are served without a token."""

from typing import Any

from aiohttp import web

from tracker.api.guard import OPERATIONS


async def live(_: web.Request) -> web.Response:
    """Respond with 200. A process that is stuck sends no response."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Respond with 200 if operations can be accepted, else with 503.

    Redis must be reachable, have the scripts, and accept writes. At `maxmemory` it serves reads only. If it has a limit
    of memory, the response has the figures, and from 90 per cent on a warning.
    """
    memory = await request.app[OPERATIONS].ready()
    about: dict[str, Any] = {"status": "ready"}
    if memory is not None and memory.limit:
        about["memory"] = {"usedBytes": memory.used, "limitBytes": memory.limit}
        if memory.nearly_full:
            about["warning"] = f"The store is nearly full: it uses {memory}."
    return web.json_response(about)
