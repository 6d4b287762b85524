"""The store: the reads and writes of operation records in Redis."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.domain.change import Change
from tracker.domain.operation import SECOND, Json
from tracker.domain.record import Record
from tracker.errors import Conflict, Gone, NotFound, Refused, Reused
from tracker.store import rq_tickets
from tracker.store.codec import as_hash, encode_fields, with_added_fields
from tracker.store.create_args import CreateArgs, pack_creates
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.keys import Keys, owner_digest
from tracker.store.packed_args import NOTHING, change_header
from tracker.store.record_reader import RecordReader, Stored, checked, damage_of
from tracker.store.script_constants import feed_length, script_constants
from tracker.store.script_replies import ChangeReply, ClaimReply, Overdue, Room
from tracker.store.scripts import Scripts, answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tracker.config import Settings

LEASE = 10.0
"""The longest time between two heartbeats of an attempt, in seconds. Then its lease runs out."""
VANISHED_AFTER = 5.0
"""The longest time that a ticket may be missing from its queue without being claimed, in seconds."""


class CancelPending(Conflict):
    """A cancel was requested meanwhile: the operation must end, and not start again."""


Created = tuple[Record, bool]
"""A stored record, and whether it is new."""


class Store:
    """Reads and writes operation records. Every method raises Unavailable while Redis is away."""

    def __init__(self, redis: "Redis", settings: "Settings") -> None:
        self.redis = redis
        self.address = settings.redis_address
        self.keys = Keys(settings.key_prefix, settings.rq_key_prefix)
        self.feed_length = feed_length(settings.feed_bytes)
        """How many messages a tenant's feed keeps."""
        constants = script_constants(self.keys, test_clock=settings.test_clock, feed_length=self.feed_length)
        self._scripts = Scripts(redis, self.keys, constants)
        self.page, self.records, self.turn = self._scripts.read_page, self._scripts.read_records, self._scripts.turn
        self.take_lock = self._scripts.take_lock
        self.clock_jumped, self.shift_times = self._scripts.clock_jumped, self._scripts.shift_times
        self._reader = RecordReader()
        self.readable = self._reader.readable

    async def ready(self) -> None:
        """Check that Redis answers, has every script, and accepts writes."""
        await self._scripts.loaded()

    async def create(self, record: Record, *, delay: float = 0.0, idempotency_key: IdempotencyKey = NO_KEY) -> Created:
        """Store a new operation and queue its first ticket, in one atomic step and one round trip.

        Returns the stored record, and whether it is new. It is not new when the same id, call and body were stored
        before, or when the same request came before with the same idempotency key. Raises Conflict when another
        operation has the id, Reused when the idempotency key belongs to another request, and Gone when the operation
        that the request made is gone.
        """
        [outcome] = await self.create_each([CreateArgs(record, delay, idempotency_key)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def create_each(self, many: Sequence[CreateArgs]) -> list[Created | Exception]:
        """Store `MOST_TOGETHER` operations at most, by one script with all operations of this turn of the event loop.

        Returns for each operation, in the same order, what `create` would return or raise for it.
        """
        if not many:
            return []
        replies = await self._scripts.create.each(list(pack_creates(many)))
        return [_outcome(self._created, new.record, *reply) for new, reply in zip(many, replies, strict=True)]

    async def find(self, tenant: str, operation_id: str) -> Record:
        """Read an operation by its public id. Raises NotFound, or Gone when only its tombstone is left.

        Raises UnreadableRecord for a damaged record.
        """
        [reply] = await self._scripts.read_by_public_id.each([[owner_digest(tenant), operation_id]])
        if not reply:
            raise NotFound(f"There is no operation '{operation_id}'.")
        return _visible(self._decode(reply))

    async def read(self, keys: Iterable[str]) -> list[Record]:
        """Read records by internal key, in one round trip. Those that do not exist or cannot be read are left out."""
        found = [self._reader.readable_as(key, stored) for key, stored in await self._stored(keys)]
        return [record for record in found if record is not None]

    async def damaged(self, keys: Iterable[str]) -> dict[str, str]:
        """The records that cannot be read, by internal key, each with the reason."""
        reasons = {key: damage_of(key, stored) for key, stored in await self._stored(keys)}
        return {key: reason for key, reason in reasons.items() if reason is not None}

    async def _stored(self, keys: Iterable[str]) -> list[tuple[str, Stored]]:
        """The hashes of records, read in one round trip, each with its key."""
        packable = [key for key in keys if key.isascii()]  # other texts are no keys, and may have no encoding
        async with answering(), self.redis.pipeline(transaction=False) as pipe:
            for key in packable:
                pipe.hgetall(self.keys.operation(key))
            replies = map(checked, await pipe.execute(raise_on_error=False))
            return list(zip(packable, replies, strict=True))

    def _decode(self, reply: Sequence[str]) -> Record:
        """Decode a record from the reply of HGETALL inside a script. Raises UnreadableRecord."""
        return self._reader.read(as_hash(reply))

    async def apply(self, change: Change) -> Record:
        """Write a change, if the record is still in the state that the change has seen. Returns the changed record.

        Raises Refused when the record is in another state, CancelPending when a cancel was requested meanwhile, and
        NotFound when the record is gone.
        """
        [outcome] = await self.apply_each([change])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def apply_each(self, changes: Sequence[Change]) -> list[Record | Exception]:
        """Write changes by one run of the script. Returns for each what `apply` would return or raise for it."""
        words = [word for change in changes for word in pack(change)]
        replies = await self._scripts.change(brief=0, changes=words)
        return [_outcome(self._changed, change, *reply) for change, reply in zip(changes, replies, strict=True)]

    async def write(self, changes: Iterable[Sequence[str]]) -> list[ChangeReply]:
        """Write packed changes in one round trip. Each change has a fence and a reply of its own."""
        words = [word for packed in changes for word in packed]
        return [ChangeReply(word) for [word] in await self._scripts.change.together(brief=1, changes=words)]

    async def claim(
        self, worker: str, room: Room, *, batch: str, turn: int = 0, deep: bool = True, lease: float = LEASE
    ) -> ClaimReply:
        """Take tickets from the queues, as many as there is room for, and begin their attempts.

        `batch` names the claim. A claim that is repeated by the same name, because its reply was lost, has the same
        reply. `turn` is how many operations this worker has claimed before; the lanes' turns depend on it. With `deep`
        the claim looks past tickets that there is no room for, up to 200 in each lane. `lease` is in seconds.
        """
        return await self._claim(worker, room, batch=batch, turn=turn, deep=deep, lease=lease, jobs=[])

    async def claim_ticket(
        self, job_id: str, *, worker: str, kinds: Mapping[str, str], lease: float = LEASE
    ) -> ClaimReply:
        """Begin the attempt of a ticket that one of RQ's own workers has taken, and leave RQ's keys to RQ.

        The same worker may repeat the claim. No other attempt may have a worker of that name.
        """
        room = Room(coroutines=1, functions=1, kinds=kinds, apart=1)
        return await self._claim(worker, room, batch="", turn=0, deep=False, lease=lease, jobs=[job_id])

    async def _claim(
        self, worker: str, room: Room, *, batch: str, turn: int, deep: bool, lease: float, jobs: list[str]
    ) -> ClaimReply:
        state, opens, waiting, *verdicts = await self._scripts.claim.together(
            worker=worker,
            batch=batch,
            lease=round(lease * SECOND),
            coroutines=room.coroutines,
            functions=room.functions,
            apart=room.apart,
            idle=int(room.idle),
            kinds=json.dumps(dict(room.kinds)),
            turn=turn,
            deep=int(deep),
            shares=room.shares.encoded(),
            jobs=jobs,
        )
        return ClaimReply(
            started=self._readable_of("CLAIMED", verdicts),
            parked=self._readable_of("PARKED", verdicts),
            refused=[(word, job) for word, job, *_ in verdicts if word not in {"CLAIMED", "PARKED"}],
            suspended=state == "SUSPENDED",
            more=state == "MORE",
            left=state == "LEFT",
            alone=state == "ALONE",
            again=state == "AGAIN",
            opens=int(opens) / SECOND if opens else None,
            waiting=waiting,
        )

    async def beat(self, attempts: Iterable[tuple[str, int]], *, lease: float = LEASE) -> list[str]:
        """Renew the leases of attempts in one round trip. Each attempt is given by its operation's key and its number.

        Returns a word for each: OK, CANCEL (a cancel was requested) or REFUSED (it is not the current attempt any
        more). `lease` is in seconds.
        """
        words = [word for attempt in attempts for word in attempt]
        reply: list[str] = await self._scripts.beat(lease=round(lease * SECOND), attempts=words)
        return reply

    async def history(self, key: str) -> list[Json]:
        """The attempts of an operation that ended without success, oldest first. The last ten are kept."""
        async with answering():
            entries: list[Any] = await self.redis.lrange(self.keys.history(key), 0, -1)
        parts = (entry.partition(" ") for entry in entries)
        return [{**json.loads(text), "ended": int(ended)} for ended, _, text in parts]

    async def overdue(self, limit: int) -> Overdue:
        """The work of the sweeper now, `limit` of each kind at most. Marks missing tickets as suspects."""
        lists = await self._scripts.find_overdue(limit=limit, patience=round(VANISHED_AFTER * SECOND))
        return Overdue(*lists)

    async def expire(self, limit: int) -> tuple[int, int]:
        """Turn expired records into tombstones, and remove ended tombstones: `limit` at most. Returns both counts."""
        expired, forgotten = await self._scripts.expire(limit=limit)
        return expired, forgotten

    async def remove_litter(self, job_ids: Iterable[str]) -> None:
        """Remove what RQ still has of the tickets of lost workers."""
        async with answering(), self.redis.pipeline(transaction=True) as pipe:
            for job_id in job_ids:
                hashes, lists, sets = rq_tickets.leftovers(self.keys, job_id)
                pipe.delete(*hashes)
                for name in lists:
                    pipe.lrem(name, 0, job_id)
                for name in sets:
                    pipe.zrem(name, job_id)
                pipe.zrem(self.keys.litter, job_id)
            await pipe.execute()

    def _changed(self, change: Change, word: str, *reply: str) -> Record:
        seen = change.seen
        match word:
            case ChangeReply.OK:
                return self._decode(reply)
            case ChangeReply.CONFLICT:
                before = f"{seen.stage}, attempt {seen.attempt}"
                raise Refused(f"{change.transition}: operation {seen.id} is no longer {before}")
            case ChangeReply.CANCEL:
                raise CancelPending(f"{change.transition}: a cancel of operation {seen.id} is pending")
            case ChangeReply.MISSING:
                raise NotFound(f"There is no operation '{seen.id}'.")
            case other:
                raise AssertionError(f"change.lua answered {other!r}")

    def _created(self, record: Record, word: str, *reply: str) -> Created:
        match word:
            case "NEW":
                return with_added_fields(record, *reply), True
            case "CREATED" | "EXISTS":
                return _visible(self._decode(reply)), word == "CREATED"
            case "REUSED":
                raise Reused("The idempotency key belongs to another request.")
            case "FORGOTTEN":
                raise Gone("The operation that this request made is not there any more.")
            case "CONFLICT":
                owner = "another operation, or to a deleted operation whose tombstone has not ended"
                raise Conflict(f"The id '{record.id}' belongs to {owner}.", target="id")
            case other:
                raise AssertionError(f"create.lua answered {other!r}")

    def _readable_of(self, word: str, verdicts: Iterable[Sequence[Any]]) -> list[Record]:
        """The records of these verdicts that can be read."""
        found = (self.readable(as_hash(rest[0])) for said, _, *rest in verdicts if said == word)
        return [record for record in found if record is not None]


def _outcome(read: Callable[..., Any], *reply: Any) -> Any:
    """The outcome of one of several operations: the value that `read` returns for the reply, or its error."""
    try:
        return read(*reply)
    except Exception as error:  # noqa: BLE001 - the error is the outcome of this operation only
        return error


def _visible(record: Record) -> Record:
    if not record.visible:
        raise Gone(f"The operation '{record.id}' was deleted or its retention has ended.")
    return record


def pack(change: Change) -> list[str]:
    """The arguments of `change.lua` for a change. They can be kept and sent later."""
    seen = change.seen
    fields = [word for pair in encode_fields(change.fields).items() for word in pair]
    header = change_header(
        key=seen.key,
        seen_stage=seen.stage,
        seen_attempt=seen.attempt,
        seen_ticket=seen.ticket,
        seen_revision=NOTHING if change.revision is None else change.revision,
        lease_ran_out=int(change.lease_ran_out),
        stage=change.stage,
        delay=round(change.delay * SECOND),
        token=change.token,
        timestamp_field=change.timestamp_field or NOTHING,
        count=len(fields),
    )
    entry = "" if change.entry is None else json.dumps(change.entry, separators=(",", ":"))
    return [header, entry, *fields]
