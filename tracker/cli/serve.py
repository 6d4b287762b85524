"""`tracker serve` and `tracker worker`: the two processes of an installation."""

from collections.abc import Coroutine
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import typer

from tracker.cli.start import start


class Auth(StrEnum):
    """What `--auth` takes."""

    TOKENS = "tokens"
    NONE = "none"


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: TRACKER_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one. Default: TRACKER_PORT.")
    ] = None,
    auth: Annotated[Auth | None, typer.Option(help="`none` on a loopback address only. Default: TRACKER_AUTH.")] = None,
) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C."""
    settings = start(host=host, port=port, auth=None if auth is None else auth.value)

    from tracker.api.app import serve as serve_api

    _run(serve_api(settings, on_ready=lambda url: typer.echo(f"ready {url}")))


def worker(
    processes: Annotated[
        int | None, typer.Option(min=0, help="RQ workers to run. Default: TRACKER_WORKER_PROCESSES, the cores.")
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to finish operations after SIGTERM. Default: TRACKER_DRAIN_SECONDS."),
    ] = None,
) -> None:
    """Run RQ workers under a supervisor until SIGTERM or Ctrl-C."""
    settings = start(worker_processes=processes, drain_seconds=drain_seconds)
    supervisor = import_module("workers.supervisor")  # by name: tracker does not depend on workers
    code = supervisor.run(
        settings,
        processes=settings.worker_processes,
        drain_seconds=settings.drain_seconds,
    )
    raise typer.Exit(code)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        import asyncio

        asyncio.run(main)
    else:
        uvloop.run(main)
