"""The composition root of the API: makes the application from settings, and runs it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from tracker.api import gc_tuning, routes
from tracker.api.answers import BUDGETS
from tracker.api.auth import open_callers
from tracker.api.guard import CALLERS, OPERATIONS, PUBLIC_URL, REGISTRY
from tracker.api.links import PublicUrl
from tracker.api.long_poll import release_all
from tracker.api.openapi import docs_page, document, metadata
from tracker.api.server import Runner
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.service import open_operations
from tracker.url_handlers.request import load_registry

log = structlog.get_logger()

BODY_LIMIT: Final = 1024 * 1024
"""How many bytes a request's body has at most, before and after decompression."""
SWITCH_SECONDS: Final = 0.001
"""The longest time that a thread, which parses a large body, keeps the interpreter from the event loop, in seconds.
Python's own is five times as long."""
BACKLOG: Final = 4096
"""How many connections wait to be accepted at most, if the system allows so many. Others connect again later."""


def create_app(settings: Settings) -> web.Application:
    """Make the application. Raises ConfigurationError. Redis is not needed yet."""
    app = web.Application(client_max_size=BODY_LIMIT)
    app[CALLERS] = open_callers(settings)
    app[PUBLIC_URL] = PublicUrl(settings)
    app[BUDGETS] = Budgets(settings)
    app[BUDGETS].tenants.know(*app[CALLERS].tenants)
    app[REGISTRY] = load_registry(settings)
    served = routes.routes_of(settings.dialects)
    app[document.DESCRIPTION] = document.description_response(served, app[REGISTRY], settings)
    app[metadata.METADATA] = metadata.metadata_response(app[REGISTRY])
    app[docs_page.PAGE] = docs_page.open_page()
    routes.mount(app, served)
    app.cleanup_ctx.append(partial(_operations, settings))
    app.on_shutdown.append(release_all)
    return app


async def _operations(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    async with open_operations(settings, app[BUDGETS]) as operations:
        app[OPERATIONS] = operations
        yield


@asynccontextmanager
async def running(settings: Settings, *, share_port: bool = False) -> AsyncIterator[str]:
    """Listen at the address of the settings. Yields the API's own URL. At the end, requests under way are completed.

    `share_port` lets other processes of this user listen on the same port (SO_REUSEPORT). Raises ConfigurationError if
    the address cannot be listened on.
    """
    runner = Runner(create_app(settings))
    try:
        await runner.setup()
        port = settings.port
        site = web.TCPSite(runner, settings.host, port, backlog=BACKLOG, reuse_port=share_port or None)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(f"{settings.host} port {settings.port}: {error.strerror}") from None
        yield _url(settings.host, site.port)
    finally:
        await runner.cleanup()


async def serve(settings: Settings, *, share_port: bool = False, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the API until SIGTERM or SIGINT. Once it listens, `on_ready` is called with its URL."""
    sys.setswitchinterval(SWITCH_SECONDS)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, share_port=share_port) as url, beside(gc_tuning.collect_regularly()):
        log.info("api_ready", url=url)
        if on_ready is not None:
            on_ready(url)
        await stop.wait()
        log.info("api_stopping", url=url)


def _url(host: str, port: int) -> str:
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
