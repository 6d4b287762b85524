"""HTTP service on aiohttp and uvloop, as the tracker's API, in one process without access log."""

import asyncio

from aiohttp import web

from benchmarks.web.system import Jobs

packages = ("aiohttp", "uvloop")


async def serve(jobs: Jobs, port: int) -> None:
    """Serve until the process is ended."""

    async def create(request: web.Request) -> web.Response:
        job = await jobs.start((await request.json())["number"])
        return web.json_response({"id": job, "status": "pending"}, status=202)

    async def read(request: web.Request) -> web.Response:
        result = await jobs.result(request.match_info["id"])
        return web.json_response({"status": "pending" if result is None else "done", "result": result})

    async def wait(request: web.Request) -> web.Response:
        result = await jobs.wait(request.match_info["id"], float(request.query["every"]))
        return web.json_response({"status": "done", "result": result})

    async def done(request: web.Request) -> web.Response:
        result = await jobs.done((await request.json())["number"], float(request.query["every"]))
        return web.json_response({"status": "done", "result": result})

    await jobs.open()
    app = web.Application()
    app.router.add_post("/jobs", create)
    app.router.add_post("/jobs/done", done)
    app.router.add_get("/jobs/{id}", read)
    app.router.add_get("/jobs/{id}/wait", wait)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()
