"""`tracker serve` and `tracker worker`: the two processes of an installation."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from tracker.cli.startup import start


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
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes that share the port. Default: TRACKER_API_PROCESSES, 1."),
    ] = None,
    share_port: Annotated[bool, typer.Option("--share-port", hidden=True)] = False,
) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C."""
    settings = start(host=host, port=port, auth=None if auth is None else auth.value, api_processes=processes)
    if settings.api_processes > 1:
        from asyncio import run as run_keeper

        from tracker.cli import serve_processes

        run_keeper(serve_processes.run(settings, settings.api_processes))
        return

    from tracker.api.app import serve as serve_api
    from tracker.runtime.background import run

    run(serve_api(settings, share_port=share_port, on_ready=lambda url: typer.echo(f"ready {url}")))


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=0, help="Coroutine operations to run at once. Default: TRACKER_WORKER_CONCURRENCY, 100."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=0, help="Plain functions to run at once. Default: TRACKER_WORKER_PROCESSES, the cores."),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to finish operations after SIGTERM. Default: TRACKER_DRAIN_SECONDS."),
    ] = None,
) -> None:
    """Run operations until SIGTERM or Ctrl-C, which let them finish; a second one hands them back at once."""
    settings = start(worker_concurrency=concurrency, worker_processes=processes, drain_seconds=drain_seconds)
    worker = import_module("workers.worker")  # by name: tracker does not depend on workers
    raise typer.Exit(worker.run(settings))
