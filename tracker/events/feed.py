"""The feed: messages about changes of operations. Each tenant has a Redis stream of its latest messages.

A script that changes operations writes one message for each tenant (`store/lua/modules/events.lua`). It publishes the
message, and adds it as an entry to the tenant's feed, a bounded stream of Redis. A message is lines of text:

    <tenant's digest> TAB <id of the entry>                                  in the published message only
    <key> TAB <callId> TAB [<revision>,"<stage>",<attempt>,<time>,{…}]       for each change

The object is left out when it is empty. Each of its members may be missing:

* `i`: the public id, unless it is the key as a UUID. `p`: percent. `d`: detail.
* `q`: the time of a cancel request. `c`: 1 for a canceled operation.
* `k`, `f`: type and result of an operation that has ended, in the form of the record.
* `b`: only for a change that ends the operation: when the last attempt began.
* `r`, `x`: only for a change that ends the operation: the members that the handler set, and when the record expires.
  They are in the published message only, and only if they are short. With them, a process that knows the earlier record
  need not read the new one.

Times are microseconds. The last line about an operation has the stage `tombstone`: the operation was deleted, or its
retention has ended.
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
    """The position of a change in its tenant's feed: both parts of the entry's id, and the line, counted from 1."""

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
"""The position before the first change of a feed. It is also the end of an empty feed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change: the state of the operation after the change. `gone`: clients cannot see the operation any more.

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
        """The position of the latest change. Later changes have later positions."""
        async with answering():
            last: Any = await self._redis.xrevrange(self._name, count=1)
        for entry, fields in last:
            return Position.of(entry, _text(fields).count("\n") + 1)
        return BEGINNING

    async def holds(self, position: Position) -> bool:
        """Whether the feed still has all changes after a position.

        Redis drops old entries. So the entry of the position must still be there, or the feed must be too short to
        have lost any.
        """
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
    """Make the record of an ended operation from the earlier record and the line about the end, without a read.

    Returns None when the line does not say enough: the caller must read the record then. Fields that clients never see
    (`worker`, `charged`) keep their earlier values.
    """
    try:
        return _after_end(known, line)
    except (ValueError, TypeError, KeyError):  # a newer version wrote the line
        return None


def _after_end(known: Record, line: str) -> Record | None:
    _, _, revision, stage, attempt, changed, more = _parse(line)
    claims = int(known.stage is not Stage.RUNNING)
    is_next_change = (revision, attempt) == (known.revision + claims + 1, known.attempt + claims)
    if "r" not in more or not is_next_change or known.results:
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
