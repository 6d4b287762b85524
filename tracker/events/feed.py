"""What is told of operations, and kept for a while.

Whatever changes operations tells it by one message for each tenant (`lua/modules/events.lua`): it is published, and
an entry of the tenant's feed, a bounded stream. A message is lines of text:

    <tenant's digest> TAB <id of the entry>                                  in the published one only
    <key> TAB <callId> TAB [<revision>,"<stage>",<attempt>,<time>,{…}]       for each change

The object, left out when it is empty, holds what there is of: `i` the public id, unless it is the key as a UUID; `p`
percent; `d` detail; `q` when a cancel was asked for; `c` 1 for canceled; and of an operation that has ended `k` its
type, `f` its result, stored as records do, and `b`, where it ends with this change, when its last attempt began. Such
a line also has, only as it is published and unless that would be long, `r` what the handler has set, and `x` when the
record expires: with them, who knows the record as it was before need not read it again. Times are microseconds. Of an
operation that is deleted, or whose retention has ended, one last line says `tombstone`.
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
"""Entries of a feed that are read in one round trip."""

_POSITION = re.compile(r"([0-9]{1,15})-([0-9]{1,15})-([0-9]{1,6})")
_LAST = {Stage.COMPLETED, Stage.FAILED, Stage.TOMBSTONE}
_ENDED = {Stage.COMPLETED: OperationStatus.COMPLETED, Stage.FAILED: OperationStatus.FAILED}


class Position(NamedTuple):
    """Where in its tenant's feed a change is told: the entry's id, in two parts, and the line, from 1."""

    time: int
    sequence: int
    line: int

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read what `str` wrote; None when it is no position."""
        match = _POSITION.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None

    @classmethod
    def of(cls, entry: str, line: int) -> Self:
        """A line of an entry."""
        time, _, sequence = entry.partition("-")
        return cls(int(time), int(sequence), line)

    @property
    def entry(self) -> str:
        """The entry's id, as Redis has it."""
        return f"{self.time}-{self.sequence}"

    def __str__(self) -> str:
        return f"{self.time}-{self.sequence}-{self.line}"


BEGINNING = Position(0, 0, 0)
"""Where a feed ends that holds nothing."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as it was told: what the operation is since then. `gone`: nobody can see it any more.

    `type` and `ran` (what the last attempt took) are known of operations that have ended only. Times are microseconds.
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
        """The record's, as it was then."""
        return f'W/"{self.revision}"'

    @classmethod
    def read(cls, line: str) -> Self:
        """Read a line. Raises ValueError when it is none."""
        key, call_id, revision, stage, attempt, changed, more = _told(line)
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
        """What a record would be told as."""
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
    """An event, and where it is told."""

    position: Position
    event: Event


class Feed:
    """What a tenant's feed still holds. Every method raises Unavailable while Redis is away."""

    def __init__(self, redis: "Redis", name: str) -> None:
        self._redis, self._name = redis, name

    async def end(self) -> Position:
        """Where it ends: whatever is told later comes after this."""
        async with answering():
            last: Any = await self._redis.xrevrange(self._name, count=1)
        for entry, fields in last:
            return Position.of(entry, _text(fields).count("\n") + 1)
        return BEGINNING

    async def holds(self, position: Position) -> bool:
        """Whether all that was told after a position is still there: the entry itself is, or nothing was cut yet."""
        async with answering():
            if position == BEGINNING:
                return int(await self._redis.xlen(self._name)) < FEED_LENGTH
            return bool(await self._redis.xrange(self._name, position.entry, position.entry, count=1))

    async def after(self, position: Position) -> AsyncIterator[tuple[Position, str]]:
        """The lines after a position, oldest first, to what is the end meanwhile."""
        start, more = position.entry, True
        while more:
            async with answering():
                entries: Any = await self._redis.xrange(self._name, start, "+", count=READ_AT_ONCE)
            for entry, fields in entries:
                for number, line in enumerate(_text(fields).split("\n"), 1):
                    place = Position.of(entry, number)
                    if place > position:
                        yield place, line
                start = f"({entry}"
            more = len(entries) == READ_AT_ONCE


def ended(known: Record, line: str) -> Record | None:
    """What a record is now for clients, by the line of its end; None where that does not tell, and it must be read.

    What they are not shown (`worker`, `charged`) stays as it was known.
    """
    try:
        return _ended(known, line)
    except (ValueError, TypeError, KeyError):  # of a newer version, in an update
        return None


def _ended(known: Record, line: str) -> Record | None:
    _, _, revision, stage, attempt, changed, more = _told(line)
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
    """The event of a line, or None when it is not of a form that this version knows (a newer one's, in an update)."""
    try:
        return Event.read(line)
    except (ValueError, TypeError):
        log.warning("event_unreadable", line=line[:200])
        return None


def tells_end(line: str) -> bool:
    """Whether a line tells of an operation that has ended, or that nobody can see any more."""
    return line.rpartition("\t")[2].partition('"')[2].partition('"')[0] in _LAST


def _told(line: str) -> tuple[str, str, int, Stage, int, Micros, Json]:
    """Key, callId, revision, stage, attempt, time and the object of a line. Raises ValueError when it is none."""
    key, call_id, told = line.split("\t", 2)
    revision, word, attempt, changed, *more = decode(told)
    return key, call_id, revision, Stage(word), attempt, changed, more[0] if more else {}


def _text(fields: Mapping[str, str]) -> str:
    """The text of an entry, which is its only field."""
    return next(iter(fields.values()), "")
