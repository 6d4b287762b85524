"""The record in Redis, through the scripts; nobody else reads or writes it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tracker import queue
from tracker.codec import decode, decode_hash, encode, encode_fields
from tracker.errors import Conflict, Gone, NotFound, Refused
from tracker.keys import Keys
from tracker.lifecycle import Change
from tracker.model import SECOND, Record
from tracker.scripts import Scripts, answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tracker.config import Settings

log = structlog.get_logger()

LEASE = 10.0
"""Seconds that an attempt may go without a beat."""
VANISHED_AFTER = 5.0
"""Seconds that a ticket may be missing from its queue, unclaimed."""


class CancelPending(Conflict):
    """A cancel was asked for meanwhile: the operation must end, not start again."""


class UnknownType(Conflict):
    """The claimer does not have the operation's type. `record` is the operation."""

    def __init__(self, record: Record) -> None:
        super().__init__(f"no handler for {record.type} here")
        self.record = record


@dataclass(frozen=True, slots=True)
class Overdue:
    """What the sweeper has to act on, by internal key; `litter` holds RQ job ids."""

    lost: Sequence[str]
    due: Sequence[str]
    vanished: Sequence[str]
    litter: Sequence[str]


class Store:
    """All reads and writes of operation records. Every method raises Unavailable while Redis is away."""

    def __init__(self, redis: "Redis", settings: "Settings") -> None:
        self.redis = redis
        self.address = settings.redis_address
        self.keys = Keys(settings.key_prefix, settings.rq_key_prefix)
        constants = queue.constants(self.keys, test_clock=settings.test_clock)
        self._scripts = Scripts(redis, self.keys, constants)

    async def ready(self) -> None:
        """Check that Redis answers and has every script."""
        await self._scripts.loaded()

    async def create(self, record: Record) -> tuple[Record, bool]:
        """Store a new operation and queue its first ticket, in one atomic step and one round trip.

        Returns the stored record and whether it is new: the same id, call and body again is the stored one.
        Raises Conflict when the id is taken by another.
        """
        keys, context = self.keys, record.client_context
        word, *answer = await self._scripts.create(
            op=keys.operation(record.key),
            ids=keys.ids(record.tenant),
            call=keys.call(record.tenant, record.call_id),
            status=keys.status(record.tenant, record.call_id, record.status),
            context=keys.context(record.tenant, record.call_id, context or ""),
            key=record.key,
            id=record.id,
            digest=record.digest,
            indexed=int(context is not None),
            fields=_flat(encode(record)),
        )
        match word:
            case "CREATED" | "EXISTS":
                return decode(answer), word == "CREATED"
            case "CONFLICT":
                message = (
                    f"The id '{record.id}' is another operation's, or a deleted one's whose tombstone has not ended."
                )
                raise Conflict(message, target="id")
            case other:
                raise AssertionError(f"create.lua answered {other!r}")

    async def find(self, tenant: str, operation_id: str) -> Record:
        """Read an operation by its public id. Raises NotFound, or Gone when only its tombstone is left."""
        answer = await self._scripts.find(ids=self.keys.ids(tenant), id=operation_id)
        if not answer:
            raise NotFound(f"There is no operation '{operation_id}'.")
        record = decode(answer)
        if not record.visible:
            raise Gone(f"The operation '{operation_id}' was deleted or its retention has ended.")
        return record

    async def read(self, keys: Iterable[str]) -> list[Record]:
        """Read records by internal key, in one round trip; those that are not there are left out."""
        async with answering(), self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(self.keys.operation(key))
            hashes = await pipe.execute()
        return [record for stored in hashes if (record := _decodable(stored)) is not None]

    async def apply(self, change: Change) -> Record:
        """Write a change, if the record is still where it was seen; return it as it now is.

        Raises Refused when it is not, CancelPending when a cancel came between, NotFound when it is gone.
        """
        seen = change.seen
        word, *answer = await self._scripts.change(
            op=self.keys.operation(seen.key),
            key=seen.key,
            seen_stage=seen.stage,
            seen_attempt=seen.attempt,
            seen_ticket=seen.ticket,
            seen_revision="" if change.revision is None else change.revision,
            lease_ran_out=int(change.lease_ran_out),
            stage=change.stage,
            delay=round(change.delay * SECOND),
            token=change.token,
            stamp=change.stamp,
            fields=_flat(encode_fields(change.fields)),
        )
        match word:
            case "OK":
                return decode(answer)
            case "CONFLICT":
                raise Refused(f"{change.arrow}: operation {seen.id} is no longer {seen.stage}, attempt {seen.attempt}")
            case "CANCEL":
                raise CancelPending(f"{change.arrow}: a cancel of operation {seen.id} is pending")
            case "MISSING":
                raise NotFound(f"There is no operation '{seen.id}'.")
            case other:
                raise AssertionError(f"change.lua answered {other!r}")

    async def claim(self, key: str, ticket: int, *, worker: str, types: Iterable[str], lease: float = LEASE) -> Record:
        """Begin the next attempt. `types` are canonical names; `lease` is in seconds.

        Raises NotFound, Refused when the ticket is not the current one (or the operation ended), UnknownType.
        """
        word, *answer = await self._scripts.claim(
            op=self.keys.operation(key),
            key=key,
            ticket=ticket,
            worker=worker,
            lease=round(lease * SECOND),
            types=f",{','.join(types)},",
        )
        match word:
            case "CLAIMED":
                return decode(answer)
            case "STALE":
                raise Refused(f"ticket {ticket} is not the current one: the operation is {answer[0]}")
            case "UNKNOWN_TYPE":
                raise UnknownType(decode(answer))
            case "MISSING":
                raise NotFound("There is no such operation.")
            case other:
                raise AssertionError(f"claim.lua answered {other!r}")

    async def beat(self, record: Record, *, lease: float = LEASE) -> bool:
        """Renew the attempt's lease (seconds); return whether a cancel was asked for. Raises Refused."""
        word = await self._scripts.beat(
            op=self.keys.operation(record.key),
            key=record.key,
            attempt=record.attempt,
            lease=round(lease * SECOND),
        )
        if word == "REFUSED":
            raise Refused(f"attempt {record.attempt} of operation {record.id} is not the current one")
        return bool(word == "CANCEL")

    async def overdue(self, limit: int) -> Overdue:
        """What the sweeper has to act on now, at most `limit` of each; marks missing tickets as suspects."""
        lists = await self._scripts.overdue(limit=limit, patience=round(VANISHED_AFTER * SECOND))
        return Overdue(*lists)

    async def expire(self, limit: int) -> tuple[int, int]:
        """Turn ended records into tombstones and forget ended tombstones; return both counts."""
        expired, forgotten = await self._scripts.expire(limit=limit)
        return expired, forgotten

    async def remove_litter(self, job_ids: Iterable[str]) -> None:
        """Remove what RQ still keeps of tickets that died with their workers."""
        async with answering(), self.redis.pipeline(transaction=True) as pipe:
            for job_id in job_ids:
                hashes, lists, sets = queue.leftovers(self.keys, job_id)
                pipe.delete(*hashes)
                for name in lists:
                    pipe.lrem(name, 0, job_id)
                for name in sets:
                    pipe.zrem(name, job_id)
                pipe.zrem(self.keys.litter, job_id)
            await pipe.execute()


def _decodable(stored: dict[str, str]) -> Record | None:
    """The record, unless it is gone or not of a form that this version knows (a newer one's, in an update)."""
    if "stage" not in stored:
        return None
    try:
        return decode_hash(stored)
    except (ValueError, KeyError, TypeError):
        log.exception("record_unreadable", key=stored.get("key"))
        return None


def _flat(pairs: dict[str, str]) -> list[str]:
    return [word for pair in pairs.items() for word in pair]
