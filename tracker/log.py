"""Logging: structlog, for people on a terminal and as JSON lines elsewhere.

Event names are stable (`operation_started`); ids travel as fields.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tracker.config import Settings
from tracker.domain.record import Record
from tracker.domain.transitions import LOG_EVENTS, Stage, Transition

_log = structlog.get_logger()
_root = logging.getLogger()


def log_transition(transition: Transition, after: Record, *, stage: Stage | None = None, **more: Any) -> None:
    """Log one transition: the one line that operators follow an operation by.

    `after` is the record as it now is, or as it was seen with the `stage` that it has now. One that comes with a
    `traceback`, of a handler that failed, is a warning.
    """
    failed = "traceback" in more
    if not failed and not _root.isEnabledFor(logging.INFO):
        return
    result = after.result_info if after.status.final else None
    tell = _log.warning if failed else _log.info
    tell(
        LOG_EVENTS[transition],
        operation_id=after.id,
        call_id=after.call_id,
        type=after.type,
        attempt=after.attempt,
        stage=str(stage or after.stage),
        **({"code": result.code, "subcode": result.subcode} if result else {}),
        **{name: value for name, value in more.items() if value is not None},
    )


def configure(settings: Settings) -> None:
    """Set up this process's logging, to standard error. Standard library loggers come out the same way."""
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human),
    ]
    if human:
        shared.append(_readable)
        renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22)
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("rq.worker", "rq.job", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _readable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A traceback in lines, as structlog shows an exception, rather than as one escaped text."""
    if "traceback" in event:
        event["exception"] = event.pop("traceback")
    return event
