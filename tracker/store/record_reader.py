"""Reading of stored records, some of which may be damaged or written by a newer version.

A record that cannot be read must not stop what is done with all others. A request for this record alone fails. Lists,
claims and the sweeper leave it out. The log names it, and so does `tracker doctor --verify`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from redis.exceptions import ResponseError

from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import TrackerError
from tracker.store.codec import decode_hash

log = structlog.get_logger()

LOGGED_EVERY: Final = 60.0
"""Seconds until the same record is logged again, if it is still read."""
MAX_REMEMBERED: Final = 1000
"""How many logged records are remembered at most."""
_ADVICE: Final = "Lists, claims and the sweeper leave it out. `tracker doctor --verify` names all such records."
_NO_HASH: Final = "its key is no hash"
_STAGES: Final = frozenset(str(stage) for stage in Stage)
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The errors that decoding raises. RecursionError: JSON that is nested too deep."""

Stored = Mapping[str, str] | ResponseError
"""A record as Redis has it: its hash, or the error for a key of another type."""


class UnreadableRecord(TrackerError):
    """A stored record is damaged, or has a form that only a newer version knows. That is no mistake of the caller."""


class RecordReader:
    """Decodes records. It logs those that cannot be read."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged: dict[str, float] = {}
        """Keys of records that were logged, each with the time."""

    def read(self, stored: Mapping[str, str]) -> Record:
        """The record. Raises UnreadableRecord."""
        try:
            return decode_hash(stored)
        except _UNREADABLE as error:
            key = stored.get("key")
            raise UnreadableRecord(f"The record with the key {key!r} cannot be read: {_reason(error)}.") from error

    def readable(self, stored: Mapping[str, str]) -> Record | None:
        """The record. None when it is gone or cannot be read; the latter is logged."""
        return self._decoded(stored, key="") if stored else None

    def readable_as(self, key: str, stored: Stored) -> Record | None:
        """The record that is stored with this key. None as `readable`, also when it names another key.

        A change of a record that names another key would be written to the record with that key.
        """
        if isinstance(stored, ResponseError):
            self._log(key, _NO_HASH)
            return None
        return self._decoded(stored, key=key) if stored else None

    def _decoded(self, stored: Mapping[str, str], *, key: str) -> Record | None:
        try:
            record = decode_hash(stored)
        except _UNREADABLE as error:
            self._log(key or stored.get("key", ""), _reason(error))
            return None
        if key and record.key != key:
            self._log(key, _foreign_key(record.key))
            return None
        return record

    def _log(self, key: str, reason: str) -> None:
        now = self._monotonic()
        if now - self._logged.get(key, -LOGGED_EVERY) < LOGGED_EVERY:
            return
        if len(self._logged) >= MAX_REMEMBERED:
            self._logged.clear()
        self._logged[key] = now
        log.error("record_unreadable", key=key, reason=reason, advice=_ADVICE)


def damage_of(key: str, stored: Stored) -> str | None:
    """Why the record with this key cannot be read. None when it can be, when it is gone, or when its stage is unknown.

    A newer version may have written an unknown stage, which is no damage.
    """
    if isinstance(stored, ResponseError):
        return _NO_HASH
    if stored.get("stage") not in _STAGES:
        return None
    try:
        record = decode_hash(stored)
    except _UNREADABLE as error:
        return _reason(error)
    return None if record.key == key else _foreign_key(record.key)


def checked(reply: Any) -> Stored:
    """A reply to HGETALL from a pipeline: a hash, or the error for a key of another type. Raises every other error."""
    if isinstance(reply, Exception) and not (isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)):
        raise reply
    hash_or_error: Stored = reply
    return hash_or_error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _foreign_key(key: str) -> str:
    return f"it names the key {key!r}"
