"""Logging by structlog: readable text on a terminal, JSON lines elsewhere.

Names of log events are stable (`operation_started`). Ids are fields of the event. Many fields, messages and tracebacks
hold texts that clients or handlers chose. Characters in them that a terminal would obey are shown in a visible form.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tracker.config import Settings
from tracker.domain.record import Record
from tracker.domain.transitions import LOG_EVENTS, Stage, Transition
from tracker.log_output import LogHandler
from tracker.visible_text import visible, visible_json, visible_lines

_INDENT = "    "
"""The beginning of each line of a traceback. A line of the log begins at the margin, so no traceback can forge one."""
_BLOCKS = ("exception", "stack")
"""Fields that are shown below their line, in several lines."""
_FOR_PEOPLE = "for people"
"""The name of a handler of log records that are shown to people."""
_PLAIN = (int, float, type(None))
"""Types whose values have no text of others."""

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
        structlog.processors.format_exc_info,
    ]
    if human:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22)
        rendering: list[Any] = [_traceback_as_block, _make_visible, console]
    else:
        rendering = [structlog.processors.JSONRenderer(_dump, default=str)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = _to_stderr()
    handler.setFormatter(formatter)
    if human:
        handler.set_name(_FOR_PEOPLE)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("rq.worker", "rq.job", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _to_stderr() -> logging.Handler:
    """A handler that writes to standard error. It never waits for the reader, unless a test has replaced the stream."""
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return logging.StreamHandler(sys.stderr)
    return LogHandler(lambda lines: _log.warning("log_lines_dropped", lines=lines))


def relay(line: str) -> None:
    """Write a line of another process's log as it is. This process does not wait for the reader, as for its own log."""
    for handler in _root.handlers:
        if isinstance(handler, LogHandler):
            handler.relay(line)
            return
    sys.stderr.write(f"{line}\n")


def is_for_people() -> bool:
    """Whether this process shows its log to people, since `configure`."""
    return any(handler.name == _FOR_PEOPLE for handler in _root.handlers)


def _traceback_as_block(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show the traceback of a handler in several lines, as structlog shows an exception."""
    if "traceback" in event:
        event["exception"] = event.pop("traceback")
    return event


def _make_visible(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show all that a terminal would obey in a visible form: in the event, in its fields and in its tracebacks."""
    return {visible(name): _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    """The value of a field, or an object whose text is the value's visible form."""
    if name in _BLOCKS:
        return visible_lines(str(value).rstrip("\n"), indent=_INDENT)
    if name == "event":
        return visible(str(value))
    if type(value) in _PLAIN:
        return value
    shown = value if isinstance(value, str) else repr(value)
    return value if visible(shown) == shown else _Shown(visible(repr(value)))


class _Shown:
    """A value that structlog's console shows as it is. A text that has spaces would be quoted and escaped again."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _dump(event: MutableMapping[str, Any], **options: Any) -> str:
    return visible_json(json.dumps(event, **options))
