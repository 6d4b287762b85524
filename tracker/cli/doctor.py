"""`tracker doctor`: checks of the Redis server and of the operations in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.cli.output import CommandFailed, Exit, Json, Output, OutputFormat, note, print_json, print_table

if TYPE_CHECKING:
    from tracker.config import Settings
    from tracker.maintenance.verifier import VerifyReport

MAX_REPAIRS = 5
"""How many times --repair repairs and verifies again at most. A repair may reveal more faults."""


def doctor(
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Check that every operation is in the queues, sets and indexes where it belongs. List those that are"
            " not.",
        ),
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what --verify finds, and verify again.")] = False,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="Address of the Redis or Valkey server: `redis://`, `rediss://`, `unix://` or `sentinel://`."
            " Default: REDIS_URL.",
            show_default=False,
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Check the Redis server and the installation. The exit code is 1 when a check fails.

    With --verify or --repair: check every operation instead. The exit code is 1 when a misplaced operation is left.
    """
    from tracker import config, log
    from tracker.cli.checks import check_address

    settings = config.load()
    if redis_url is not None:
        settings = settings.model_copy(update={"redis_url": redis_url})
    log.configure(settings)
    check_address(settings)
    if verify or repair:
        _verify(settings, output, repair=repair)
    else:
        _examine(settings, output)


def _examine(settings: "Settings", output: OutputFormat) -> None:
    import asyncio

    from tracker.cli import checks
    from tracker.store.server_check import Level

    findings = checks.examine(asyncio.run(checks.gather(settings)))
    if output is OutputFormat.JSON:
        print_json([finding.as_json() for finding in findings])
    else:
        rows = ((finding.level, finding.check, finding.found, finding.advice) for finding in findings)
        print_table(("", "check", "found", "advice"), rows)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _verify(settings: "Settings", output: OutputFormat, *, repair: bool) -> None:
    import asyncio

    from tracker.cli.checks import why_unreachable
    from tracker.errors import Unavailable

    try:
        found, left, repaired = asyncio.run(_verify_and_repair(settings, repair=repair))
    except Unavailable as error:
        raise CommandFailed(Exit.UNREACHABLE, why_unreachable(error)) from None
    if output is OutputFormat.JSON:
        after: Json = {"repaired": repaired, "left": _faults(left)} if repair else {}
        report = {"operations": found.operations, "members": found.members, "faults": _faults(found), **after}
        print_json(report)
    else:
        if found.faults:
            rows = ((fault.id, fault.key, fault.stage, fault.what, fault.where) for fault in found.faults)
            print_table(("id", "key", "stage", "fault", "where"), rows)
        note(_summary(found, left, repaired if repair else None))
    if left.faults:
        raise typer.Exit(Exit.FAILED)


async def _verify_and_repair(settings: "Settings", *, repair: bool) -> "tuple[VerifyReport, VerifyReport, int]":
    """Verify, and repair if asked. Returns the first report, the last report, and how many repairs were made."""
    from tracker.maintenance.verifier import Verifier
    from tracker.store.connection import open_redis
    from tracker.store.store import Store

    async with open_redis(settings) as redis:
        verifier = Verifier(Store(redis, settings), settings)
        with _progress() as show:
            found = left = await verifier.verify(show)
            repaired = 0
            for _ in range(MAX_REPAIRS if repair else 0):
                count = await verifier.repair(left.faults)
                if not count:
                    break
                repaired += count
                left = await verifier.verify(show)
        return found, left, repaired


def _faults(report: "VerifyReport") -> list[Json]:
    return [
        {"id": fault.id, "key": fault.key, "stage": fault.stage, "what": fault.what, "where": fault.where}
        for fault in report.faults
    ]


def _summary(found: "VerifyReport", left: "VerifyReport", repaired: int | None) -> str:
    from tracker.cli.formatting import counted

    checked = f"{counted(found.operations, 'operation')} and {counted(found.members, 'member')} of sets checked"
    misplaced, still_misplaced = ({fault.key for fault in report.faults} for report in (found, left))
    if not misplaced:
        return f"{checked}: every operation is where it belongs"
    summary = f"{checked}: {counted(len(misplaced), 'operation')} misplaced"
    if repaired is None:
        return f"{summary}; use --repair to repair {'it' if len(misplaced) == 1 else 'them'}"
    return f"{summary}, {counted(repaired, 'repair')} made, {len(still_misplaced)} left"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show the progress of `verify` on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("keys", total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)
