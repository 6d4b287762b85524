"""`tracker dev`: Valkey, the API and workers in one terminal, with nothing else to install."""

from pathlib import Path
from typing import Annotated

import typer


def dev(
    data_dir: Annotated[Path, typer.Option(help="Directory where the Valkey that is started keeps its data.")] = Path(
        ".tracker"
    ),
    host: Annotated[str, typer.Option(help="Address on which the API listens.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on which the API listens; 0 chooses a free port.")
    ] = 8080,
    redis_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of 127.0.0.1 on which Valkey listens too.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            envvar="REDIS_URL",
            help="Address of the Redis or Valkey server: `redis://`, `rediss://`, `unix://` or `sentinel://`."
            " Default: a Valkey is started.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many plain functions a worker runs at once at most, each in a process of its own. 0: no worker"
            " is started. Default: TRACKER_WORKER_PROCESSES, else the number of cores.",
        ),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            envvar="TRACKER_TYPES",
            help="Modules that declare operation types. API and workers need the same modules. Commas separate them.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TRACKER_DEV_TOKEN", help="Bearer token that the API accepts. Default: a new token at each start."
        ),
    ] = None,
) -> None:
    """Run everything here: Valkey, the API and workers. Ctrl-C stops all."""
    import asyncio

    from tracker.cli import dev_stack
    from tracker.cli.output import CommandFailed, Exit
    from tracker.cli.startup import start
    from tracker.cli.token import new_token
    from tracker.settings.kinds import words
    from tracker.store.address_check import why_unusable
    from tracker.url_handlers.request import load_registry

    settings = start(types=None if types is None else words(types), worker_processes=workers)
    load_registry(settings)
    if redis_url and (reason := why_unusable(settings.model_copy(update={"redis_url": redis_url}))):
        raise CommandFailed(Exit.UNREACHABLE, f"REDIS_URL is set, and its server cannot be used: {reason}")
    plan = dev_stack.StackPlan(
        settings=settings,
        data_dir=data_dir,
        host=host,
        port=port,
        redis_port=redis_port,
        redis_url=redis_url or None,
        workers=settings.worker_processes,
        types=types,
        token=token or new_token("dev", "dev")[0],
    )
    asyncio.run(dev_stack.run(plan))
