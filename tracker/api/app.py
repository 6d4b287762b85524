"""The composition root of the API: makes the application from settings, and runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from tracker.api import gc_tuning, routes
from tracker.api.answers import BUDGETS
from tracker.api.auth import Authenticator, open_callers
from tracker.api.connection_limits import ConnectionLimits
from tracker.api.guard import AUTHENTICATOR, CALLERS, OPERATIONS, PUBLIC_URL, REGISTRY
from tracker.api.links import PublicUrl
from tracker.api.long_poll import release_all
from tracker.api.openapi import docs_page, document, metadata
from tracker.api.refusal_log import REFUSALS, RefusalLog
from tracker.api.server import Runner
from tracker.api.site_guard import SiteGuard
from tracker.api.token_reload import TokenReloader
from tracker.config import Settings
from tracker.errors import ConfigurationError, Unavailable
from tracker.runtime import hangup, signals
from tracker.runtime.background import beside
from tracker.runtime.budgets import Budgets
from tracker.service import open_operations
from tracker.store.address_check import why_unusable
from tracker.store.connection import open_redis
from tracker.store.store import Store
from tracker.url_handlers.request import load_registry

log = structlog.get_logger()

BODY_LIMIT: Final = 1024 * 1024
"""How many bytes a request's body has at most, before and after decompression."""
SWITCH_SECONDS: Final = 0.001
"""The longest time that a thread, which parses a large body, keeps the interpreter from the event loop, in seconds.
Python's own is five times as long."""
READY_INTERVAL: Final = 0.2
"""Seconds between two checks whether Redis answers, while the API is not ready."""
MANY_CONNECTIONS: Final = 1000
"""With more connections than this, a full garbage collection may stop the process for 0.1 s."""


def create_app(settings: Settings, *, reload: asyncio.Event | None = None) -> web.Application:
    """Make the application. Raises ConfigurationError. Redis is not needed yet.

    When `reload` is set, the file of tokens is read again.
    """
    app = web.Application(client_max_size=BODY_LIMIT)
    app[CALLERS] = open_callers(settings)
    app[AUTHENTICATOR] = Authenticator(settings, app[CALLERS])
    app[REFUSALS] = RefusalLog(app[AUTHENTICATOR])
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
    app.cleanup_ctx.append(partial(_guards, TokenReloader(settings, app[CALLERS], reload or asyncio.Event())))
    app.on_shutdown.append(release_all)
    return app


async def _operations(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    async with (
        open_operations(settings, app[BUDGETS]) as operations,
        beside(operations.tenants.keep_announced(lambda: app[CALLERS].tenants)),
    ):
        app[OPERATIONS] = operations
        yield


async def _guards(reloader: TokenReloader, app: web.Application) -> AsyncIterator[None]:
    async with beside(reloader.run(), app[REFUSALS].run()):
        yield


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    share_port: bool = False,
    reload: asyncio.Event | None = None,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[str]:
    """Listen at the address of the settings. Yields the API's own URL. At the end, requests under way are completed.

    `share_port` lets other processes of this user listen on the same port (SO_REUSEPORT). When `reload` is set, the
    file of tokens is read again. Raises ConfigurationError if the address cannot be listened on.
    """
    limits = limits or ConnectionLimits(settings)
    app = create_app(settings, reload=reload)
    runner = Runner(app, settings, limits, routes.refuser(SiteGuard(settings, app[PUBLIC_URL]), settings.dialects))
    try:
        await runner.setup()
        port = settings.port
        site = web.TCPSite(runner, settings.host, port, backlog=limits.backlog, reuse_port=share_port or None)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(f"{settings.host} port {settings.port}: {error.strerror}") from None
        async with beside(runner.slow_clients.watch()):
            yield _url(settings.host, site.port)
    finally:
        await runner.cleanup()


async def serve(settings: Settings, *, share_port: bool = False, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the API until SIGTERM or SIGINT. Once it listens and Redis answers, `on_ready` is called with its URL.

    At SIGHUP the file of tokens is read again.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    stop, reload = asyncio.Event(), asyncio.Event()
    signals.on_stop(stop.set)
    hangup.on_hangup(reload.set, stop=stop.set)
    limits = ConnectionLimits(settings)
    async with (
        running(settings, share_port=share_port, reload=reload, limits=limits) as url,
        beside(gc_tuning.collect_regularly(lambda: limits.open > MANY_CONNECTIONS)),
    ):
        log.info("api_listening", url=url)
        async with beside(_report_readiness(settings, url, on_ready)):
            await stop.wait()
        log.info("api_stopping", url=url)


async def _report_readiness(settings: Settings, url: str, on_ready: Callable[[str], None] | None) -> None:
    """Say that the API is ready as soon as Redis answers and accepts writes. Say why, if it does not."""
    if reason := await asyncio.to_thread(why_unusable, settings):
        log.error("store_unusable", redis=settings.redis_address, reason=reason)
    async with open_redis(settings, most=1) as redis:
        store = Store(redis, settings)
        while not await _is_ready(store):  # noqa: ASYNC110 - only another request can tell
            await asyncio.sleep(READY_INTERVAL)
    log.info("api_ready", url=url)
    if on_ready is not None:
        on_ready(url)


async def _is_ready(store: Store) -> bool:
    try:
        await store.ready()
    except Unavailable:
        return False
    except Exception:
        log.exception("readiness_unknown")
        return False
    return True


def _url(host: str, port: int) -> str:
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
