"""Whether this process lives, and whether it can accept work. Open to everybody."""

from aiohttp import web

from tracker.api.guard import OPERATIONS


async def healthy(_: web.Request) -> web.Response:
    """Answer 200 as long as requests are answered at all."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Answer 200 while Redis answers and has the scripts, else 503."""
    await request.app[OPERATIONS].ready()
    return web.json_response({"status": "ready"})
