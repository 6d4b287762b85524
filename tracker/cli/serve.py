"""`tracker serve` and `tracker worker`: the two processes of an installation."""

import sys
from collections.abc import Coroutine
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer


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
    from tracker import config, log

    chosen = {"host": host, "port": port, "auth": None if auth is None else auth.value}
    changes = {name: value for name, value in chosen.items() if value is not None}
    settings = config.load().model_copy(update=changes)
    log.configure(settings)
    _find_modules_here()

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
    from tracker import config, log

    settings = config.load()
    log.configure(settings)
    _find_modules_here()
    supervisor = import_module("workers.supervisor")  # by name: tracker does not depend on workers
    code = supervisor.run(
        settings,
        processes=settings.worker_processes if processes is None else processes,
        drain_seconds=settings.drain_seconds if drain_seconds is None else drain_seconds,
    )
    raise typer.Exit(code)


def _find_modules_here() -> None:
    """Let TRACKER_TYPES name modules in the working directory too, as under `tracker dev` and `rq worker`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        import asyncio

        asyncio.run(main)
    else:
        uvloop.run(main)
