"""`tracker serve` and `tracker worker`: the two processes of an installation."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from tracker.cli.output import print_line
from tracker.cli.startup import start


class Auth(StrEnum):
    """The values of `--auth`."""

    TOKENS = "tokens"
    NONE = "none"


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address on which the API listens. Default: TRACKER_HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port on which the API listens; 0 chooses a free port. Default: TRACKER_PORT, else 8080.",
        ),
    ] = None,
    auth: Annotated[
        Auth | None,
        typer.Option(
            help="Whether requests need a bearer token. `none` is allowed on a loopback address only."
            " Default: TRACKER_AUTH, else tokens."
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="How many processes of the API share its port. Default: TRACKER_API_PROCESSES, else 1."
        ),
    ] = None,
    share_port: Annotated[bool, typer.Option("--share-port", hidden=True)] = False,
) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C."""
    settings = start(host=host, port=port, auth=None if auth is None else auth.value, api_processes=processes)
    if settings.api_processes > 1:
        from asyncio import run as run_supervisor

        from tracker.cli import serve_processes

        run_supervisor(serve_processes.run(settings, settings.api_processes))
        return

    from tracker.api.app import serve as serve_api
    from tracker.runtime.background import run

    run(serve_api(settings, share_port=share_port, on_ready=lambda url: print_line(f"ready {url}")))


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many coroutine handlers a worker runs at once at most, on one event loop."
            " Default: TRACKER_WORKER_CONCURRENCY, else 100.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many plain functions a worker runs at once at most, each in a process of its own."
            " Default: TRACKER_WORKER_PROCESSES, else the number of cores.",
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The longest time that a stopping worker waits for the operations that it runs. Then the worker hands"
            " these operations back to the queue. In seconds. Default: TRACKER_DRAIN_SECONDS, else 25.",
        ),
    ] = None,
) -> None:
    """Run operations until SIGTERM or Ctrl-C. The first signal lets operations finish, a second hands them back."""
    settings = start(worker_concurrency=concurrency, worker_processes=processes, drain_seconds=drain_seconds)
    worker = import_module("workers.worker")  # by name: tracker does not depend on workers
    raise typer.Exit(worker.run(settings))
