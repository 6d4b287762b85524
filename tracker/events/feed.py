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
from dataclasses import dataclass
from typing import NamedTuple, Self

import structlog

from tracker.domain.operation import Json, Micros, OperationStatus, ResultInfo
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.json_codec import decode, encode
from tracker.store.codec import as_uuid, decode_result

log = structlog.get_logger()

LARGEST_KEPT_MEMBERS = 1024
"""How many bytes of JSON the members of an operation have at most that a waiting request keeps."""

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


_LEFT_OUT: Json = {}
"""The members of a record whose own are left out."""


def without_large_members(record: Record) -> Record:
    """The record as a request keeps it that waits for a change: without its members if these are large.

    Ten thousand requests may wait at once, and decoded members take up to twenty times as much memory as their JSON.
    """
    if not record.members or len(encode(record.members)) <= LARGEST_KEPT_MEMBERS:
        return record
    return record._replace(members=_LEFT_OUT, results={})


def is_whole(record: Record) -> bool:
    """Whether a record has its members, and not only the rest of it."""
    return record.members is not _LEFT_OUT


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
    if "r" not in more or not is_next_change or known.results or not is_whole(known):
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
