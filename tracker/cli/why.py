"""`tracker why`: what an operation does, or what it waits for, as Redis has it."""

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.cli.output import CommandFailed, Exit, Output, OutputFormat, print_json, print_table

if TYPE_CHECKING:
    from tracker.cli.reason import Reason
    from tracker.config import Settings
    from tracker.domain.operation import Json, Micros
    from tracker.maintenance.diagnosis import Diagnosis


def why(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The operation's id, or its internal key.")],
    tenant: Annotated[
        str | None,
        typer.Option(
            help="The operation's tenant. Default: the tenant that has an operation of that id.", show_default=False
        ),
    ] = None,
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
    """Tell what an operation does, or what it waits for, and how its attempts ended."""
    import asyncio

    from tracker import config, log
    from tracker.cli.checks import check_address
    from tracker.cli.explanations import explain

    settings = config.load()
    if redis_url is not None:
        settings = settings.model_copy(update={"redis_url": redis_url})
    log.configure(settings)
    check_address(settings)
    found = asyncio.run(_diagnose(settings, id_, tenant))
    reasons = explain(found)
    if output is OutputFormat.JSON:
        print_json(as_json(found, reasons))
        return
    print_table(("", "operation"), _rows(found, reasons))
    if found.attempts:
        print_table(("attempt", "worker", "began", "took", "outcome", "process", "message"), _attempts(found))


async def _diagnose(settings: "Settings", id_: str, tenant: str | None) -> "Diagnosis":
    from tracker.cli.checks import why_unreachable
    from tracker.errors import NotFound, Unavailable
    from tracker.maintenance.diagnosis import Diagnoser
    from tracker.store.connection import open_redis
    from tracker.store.record_reader import UnreadableRecord
    from tracker.store.store import Store

    try:
        async with open_redis(settings) as redis:
            diagnoser = Diagnoser(Store(redis, settings), settings)
            found = []
            for key in await diagnoser.find(id_, tenant):
                with suppress(NotFound):
                    found.append(await diagnoser.diagnose(key))
    except Unavailable as error:
        raise CommandFailed(Exit.UNREACHABLE, why_unreachable(error)) from None
    except UnreadableRecord as error:
        advice = "`tracker doctor --verify` names all records that cannot be read."
        raise CommandFailed(Exit.FAILED, f"{error.message} {advice}") from None
    if not found:
        raise CommandFailed(Exit.NOT_FOUND, f"There is no operation '{id_}'.")
    if len(found) > 1:
        tenants = ", ".join(sorted(each.record.tenant for each in found))
        raise CommandFailed(
            Exit.USAGE, f"several tenants have an operation '{id_}': choose one with --tenant ({tenants})"
        )
    return found[0]


def as_json(found: "Diagnosis", reasons: "list[Reason]") -> "Json":
    """The output for programs. Times are RFC 3339 in UTC, durations are in seconds, sizes are in bytes."""
    from tracker.api.serializers import timestamp

    record = found.record
    stamps = {"created": record.created, "changed": record.changed, "started": record.started}
    return {
        "id": record.id,
        "key": record.key,
        "tenant": record.tenant,
        "callId": record.call_id,
        "type": record.type,
        "status": str(record.status),
        "stage": str(record.stage),
        "attempt": record.attempt,
        "charged": record.charged,
        "suspected": record.suspected,
        "attempts": record.policy.attempts,
        **{name: timestamp(stamp) for name, stamp in stamps.items() if stamp},
        "reasons": [reason.as_json() for reason in reasons],
        "history": [
            {**attempt, **{name: timestamp(attempt[name]) for name in ("started", "ended") if attempt.get(name)}}
            for attempt in found.attempts
        ],
    }


def _rows(found: "Diagnosis", reasons: "list[Reason]") -> list[tuple[str, str]]:
    from tracker.cli.formatting import spell
    from tracker.domain.operation import SECOND

    record = found.record
    age = spell((found.now - record.changed) / SECOND)
    told = [("why", reason.text) for reason in reasons[:1]] + [("", reason.text) for reason in reasons[1:]]
    return [
        ("id", record.id),
        ("key", record.key),
        ("type", record.type),
        ("call", f"{record.call_id} of tenant {record.tenant}"),
        ("stage", f"{record.stage} ({record.status}), last changed {age} ago"),
        ("attempts", f"{record.attempt} begun, {record.charged} of {record.policy.attempts} charged"),
        *told,
    ]


def _attempts(found: "Diagnosis") -> list[tuple[str, ...]]:
    from tracker.cli.formatting import spell
    from tracker.domain.operation import SECOND

    def ago(stamp: "Micros") -> str:
        return f"{spell((found.now - stamp) / SECOND)} ago" if stamp else ""

    def took(attempt: "Json") -> str:
        began, ended = attempt.get("started", 0), attempt.get("ended", 0)
        return spell((ended - began) / SECOND) if began and ended else ""

    return [
        (
            str(attempt["attempt"]),
            str(attempt.get("worker", "")),
            ago(attempt.get("started", 0)),
            took(attempt),
            str(attempt.get("outcome", "")) + (", not charged" if attempt.get("uncharged") else ""),
            _process_ending(attempt),
            str(attempt.get("message", "")),
        )
        for attempt in found.attempts
    ]


def _process_ending(attempt: "Json") -> str:
    """How the process of an attempt ended, and its peak memory: "SIGKILL, 812 MiB, out of memory: …"."""
    parts = []
    code = attempt.get("signal")
    if code is not None:
        parts.append(f"exit code {code}" if code >= 0 else f"signal {-code}")
        with suppress(ValueError):
            parts[-1] = signal.Signals(-code).name if code < 0 else parts[-1]
    if "peak_rss" in attempt:
        parts.append(f"{attempt['peak_rss'] // 2**20} MiB")
    if attempt.get("hint"):
        parts.append(str(attempt["hint"]))
    return ", ".join(parts)
