"""The feed: messages about changes of operations, their form, and the recent ones that each tenant's stream keeps.

A script that changes operations writes one message for each tenant (`store/lua/modules/events.lua`). It publishes the
message, and adds it as an entry to the tenant's feed, a bounded stream of Redis. A message is lines of text:

    <tenant's digest> TAB <id of the entry>                                  in the published message only
    <key> TAB <callId> TAB [<revision>,"<stage>",<attempt>,<time>,{…}]       for each change

The object is left out when it is empty. Its members are left out when there is nothing to say:

* `i`: the public id, unless it is the key as a UUID. `p`: percent. `d`: detail.
* `q`: the time of a cancel request. `c`: 1 for a canceled operation.
* `k`, `f`: type and result of an operation that has ended, in the form of the record.
* `b`: when the last attempt began, of an operation that ends with this change.
* `r`, `x`: the members that the handler set, and when the record expires, of an operation that ends with this change.
  Only published messages have them, and only short ones. A process that knows the earlier record need not read the new
  one.

Times are microseconds. An operation that is deleted or whose retention has ended has one last line, with the stage
`tombstone`.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import structlog

from tracker.domain.operation import Json, Micros, OperationStatus, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.json_codec import decode
from tracker.store.codec import as_uuid, decode_result
from tracker.store.script_constants import FEED_LENGTH
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

READ_AT_ONCE = 100
"""How many entries of a feed are read in one round trip at most."""

_POSITION = re.compile(r"([0-9]{1,15})-([0-9]{1,15})-([0-9]{1,6})")
_LAST = {Stage.COMPLETED, Stage.FAILED, Stage.TOMBSTONE}
_ENDED = {Stage.COMPLETED: OperationStatus.COMPLETED, Stage.FAILED: OperationStatus.FAILED}


class Position(NamedTuple):
    """The position of a change in its tenant's feed: the two parts of the entry's id, and the line, from 1."""

    time: int
    sequence: int
    line: int

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a position from its text. None when the text is no position."""
        match = _POSITION.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None

    @classmethod
    def of(cls, entry: str, line: int) -> Self:
        """The position of a line of an entry."""
        time, _, sequence = entry.partition("-")
        return cls(int(time), int(sequence), line)

    @property
    def entry(self) -> str:
        """The id of the entry, as Redis writes it."""
        return f"{self.time}-{self.sequence}"

    def __str__(self) -> str:
        return f"{self.time}-{self.sequence}-{self.line}"


BEGINNING = Position(0, 0, 0)
"""The end of an empty feed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change: the operation as it is after it. `gone`: clients cannot see the operation any more.

    `type` and `ran`, the length of the last attempt, are known only after the operation has ended. Times are
    microseconds.
    """

    key: str
    call_id: str
    id: str
    revision: int
    status: OperationStatus
    attempt: int
    changed: Micros
    percent: int | None = None
    detail: str = ""
    cancel_requested: Micros = 0
    canceled: bool = False
    result_info: ResultInfo | None = None
    type: str = ""
    ran: Micros | None = None
    gone: bool = False

    @property
    def etag(self) -> str:
        """The ETag of the record after this change."""
        return f'W/"{self.revision}"'

    @classmethod
    def read(cls, line: str) -> Self:
        """Read a line of a message. Raises ValueError when the form is unknown."""
        key, call_id, revision, stage, attempt, changed, more = _parse(line)
        running = OperationStatus.RUNNING if attempt else OperationStatus.NOT_STARTED
        return cls(
            key=key,
            call_id=call_id,
            id=more.get("i") or as_uuid(key),
            revision=revision,
            status=_ENDED.get(stage, running),
            attempt=attempt,
            changed=changed,
            percent=more.get("p"),
            detail=more.get("d", ""),
            cancel_requested=more.get("q", 0),
            canceled="c" in more,
            result_info=decode_result(more["f"]) if "f" in more else None,
            type=more.get("k", ""),
            ran=changed - more["b"] if "b" in more else None,
            gone=stage is Stage.TOMBSTONE,
        )

    @classmethod
    def of(cls, record: Record) -> Self:
        """The event that describes a record as it is."""
        return cls(
            key=record.key,
            call_id=record.call_id,
            id=record.id,
            revision=record.revision,
            status=record.status,
            attempt=record.attempt,
            changed=record.changed,
            percent=record.percent,
            detail=record.detail,
            cancel_requested=record.cancel_requested,
            canceled=record.canceled,
            result_info=record.result_info if record.status.final else None,
            type=record.type if record.status.final else "",
        )


class PositionedEvent(NamedTuple):
    """An event and its position."""

    position: Position
    event: Event


class Feed:
    """The feed of one tenant. Every method raises Unavailable while Redis is away."""

    def __init__(self, redis: "Redis", name: str) -> None:
        self._redis, self._name = redis, name

    async def end(self) -> Position:
        """The position of the end: later changes come after it."""
        async with answering():
            last: Any = await self._redis.xrevrange(self._name, count=1)
        for entry, fields in last:
            return Position.of(entry, _text(fields).count("\n") + 1)
        return BEGINNING

    async def holds(self, position: Position) -> bool:
        """Whether the feed still has all changes after a position: it has that entry, or has never been cut."""
        async with answering():
            if position == BEGINNING:
                return int(await self._redis.xlen(self._name)) < FEED_LENGTH
            return bool(await self._redis.xrange(self._name, position.entry, position.entry, count=1))

    async def after(self, position: Position) -> AsyncIterator[tuple[Position, str]]:
        """The lines after a position, each with its own position, oldest first."""
        start, more = position.entry, True
        while more:
            async with answering():
                entries: Any = await self._redis.xrange(self._name, start, "+", count=READ_AT_ONCE)
            for entry, fields in entries:
                for number, line in enumerate(_text(fields).split("\n"), 1):
                    line_position = Position.of(entry, number)
                    if line_position > position:
                        yield line_position, line
                start = f"({entry}"
            more = len(entries) == READ_AT_ONCE


def record_after_end(known: Record, line: str) -> Record | None:
    """The record after its operation has ended, made from the earlier record and the line that describes the end.

    None when the line does not say enough: the record must be read then. Fields that clients never see (`worker`,
    `charged`) keep their earlier values.
    """
    try:
        return _after_end(known, line)
    except (ValueError, TypeError, KeyError):  # a newer version wrote the line
        return None


def _after_end(known: Record, line: str) -> Record | None:
    _, _, revision, stage, attempt, changed, more = _parse(line)
    claims = int(known.stage is not Stage.RUNNING)
    nothing_else = (revision, attempt) == (known.revision + claims + 1, known.attempt + claims)
    if "r" not in more or not nothing_else or known.results:
        return None
    results, began = more["r"], more["b"]
    return known._replace(
        stage=stage,
        status=_ENDED[stage],
        revision=revision,
        attempt=attempt,
        percent=more.get("p"),
        detail=more.get("d", ""),
        canceled="c" in more,
        cancel_requested=more.get("q", 0),
        result_info=decode_result(more["f"]) if "f" in more else None,
        results=results,
        members={**known.members, **results} if results else known.members,
        started=known.started or began,
        began=began,
        completed=changed,
        changed=changed,
        expires=more["x"],
    )


def readable(line: str) -> Event | None:
    """The event of a line. None when this version does not know its form: a newer version may have written it."""
    try:
        return Event.read(line)
    except (ValueError, TypeError):
        log.warning("event_unreadable", line=line[:200])
        return None


def is_end(line: str) -> bool:
    """Whether a line describes an operation that has ended, or that clients cannot see any more."""
    return line.rpartition("\t")[2].partition('"')[2].partition('"')[0] in _LAST


def _parse(line: str) -> tuple[str, str, int, Stage, int, Micros, Json]:
    """Key, callId, revision, stage, attempt, time and object of a line. Raises ValueError when the form is unknown."""
    key, call_id, rest = line.split("\t", 2)
    revision, word, attempt, changed, *more = decode(rest)
    return key, call_id, revision, Stage(word), attempt, changed, more[0] if more else {}


def _text(fields: Mapping[str, str]) -> str:
    """The text of an entry, which is its only field."""
    return next(iter(fields.values()), "")
