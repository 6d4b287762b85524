"""Logging by structlog: readable text on a terminal, JSON lines elsewhere.

Names of log events are stable (`operation_started`). Ids are fields of the event.
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


def log_transition(transition: Transition, after: Record, *, stage: Stage | None = None, **fields: Any) -> None:
    """Log one transition. These lines show operators what happens to an operation.

    `after` is the record after the transition. A caller that has only the record before it passes that record, and the
    new stage as `stage`. The level is INFO, or WARNING if `fields` contain the `traceback` of a handler that failed.
    """
    failed = "traceback" in fields
    if not failed and not _root.isEnabledFor(logging.INFO):
        return
    result = after.result_info if after.status.final else None
    write = _log.warning if failed else _log.info
    write(
        LOG_EVENTS[transition],
        operation_id=after.id,
        call_id=after.call_id,
        type=after.type,
        attempt=after.attempt,
        stage=str(stage or after.stage),
        **({"code": result.code, "subcode": result.subcode} if result else {}),
        **{name: value for name, value in fields.items() if value is not None},
    )


def configure(settings: Settings) -> None:
    """Set up logging to standard error for this process. Loggers of the standard library write in the same form."""
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human),
    ]
    if human:
        shared.append(_unescape_traceback)
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


def _unescape_traceback(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show a traceback in several lines, as structlog shows an exception.

    Else it is one line with escaped line ends.
    """
    if "traceback" in event:
        event["exception"] = event.pop("traceback")
    return event
