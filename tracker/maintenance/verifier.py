"""The verifier: checks that each operation is in the sets, queues and indexes that its record asks for, and repairs.

`tracker doctor --verify` and `--repair` run it while the service runs. It reads every key of the database. It does so
in small steps, because a script or a scan keeps Redis from serving others.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from tracker.domain.operation import SECOND
from tracker.domain.transitions import Stage
from tracker.maintenance.placement import Fault, Located, Placement
from tracker.store import rq_tickets
from tracker.store.codec import as_hash
from tracker.store.keys import QUEUES
from tracker.store.script_constants import script_constants
from tracker.store.scripts import Script, answering
from tracker.store.store import LEASE, Store

if TYPE_CHECKING:
    from tracker.config import Settings

log = structlog.get_logger()

RECHECK_AFTER = 3.0
"""Seconds between the two checks that must both find a fault.

In that time a worker sends a heartbeat, a sweep ends, and a ticket that RQ has popped is claimed. So an operation that
looks wrong only while it moves is no fault.
"""
OPERATIONS_STEP = 100
"""How many operations, or members of sets, one call of a script checks at most."""
MEMBERS_STEP = 500
"""About how many members one ZSCAN or HSCAN returns."""
KEYS_STEP = 1000
"""About how many keys one SCAN returns."""
TICKETS_STEP = 5000
"""How many tickets of a queue one LRANGE returns at most."""
_REPAIR_ORDER = {
    str(stage): turn for turn, stage in enumerate((Stage.RUNNING, Stage.DELAYED, Stage.QUEUED, Stage.PARKED))
}
"""The order of repairs, by stage.

Operations that have begun are put into their serial queues first. Operations that wait must find them there when a
repair queues them.
"""
_NO_RECORD = dict.fromkeys(("id", "revision", "ticket", "lane"), "")
_STRAY = {"GONE": "in this key, but its record is gone", "ELSEWHERE": "in this key, but belongs elsewhere"}


Strays = Mapping[str, set[tuple[str, str]]]
"""By the key of an operation: sets that contain the operation and perhaps should not, each with the member."""
OnProgress = Callable[[int, int], None]
"""Called with the number of database keys that are done, and the number of all."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of `verify`: the faults, and how many operations and members of sets and indexes were checked."""

    operations: int
    members: int
    faults: Sequence[Fault]


@dataclass(slots=True)
class _Walk:
    """The state of one call of `verify`.

    `listed`: the numbers of the tickets that were on RQ's queues at the start. `operations`, `members`: how many were
    checked. `doubts`: the operations to check again, as `Strays`.
    """

    listed: set[int]
    operations: int = 0
    members: int = 0
    doubts: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))


class Verifier:
    """Finds faults and repairs them. Both methods raise Unavailable while Redis is away.

    `recheck_after`: seconds between the two checks of a fault.
    """

    def __init__(self, store: Store, settings: "Settings", *, recheck_after: float = RECHECK_AFTER) -> None:
        self._store, self._redis, self._keys = store, store.redis, store.keys
        self._recheck_after = recheck_after
        self._places = Placement(store.keys)
        constants = script_constants(store.keys, test_clock=settings.test_clock, feed_length=store.feed_length)
        self._locate = Script("read_memberships", store.redis, store.keys, constants)
        self._strays = Script("find_stray_members", store.redis, store.keys, constants)
        self._repair = Script("repair", store.redis, store.keys, constants)

    async def verify(self, on_progress: OnProgress | None = None) -> VerifyReport:
        """Check all operations, and all members of sets and indexes.

        Different keys are read at different times, so an operation that moves meanwhile can look wrong. Each operation
        that looks wrong is read again as a whole, by one script. What is still wrong then is checked once more after
        `recheck_after` seconds, because a heartbeat or a sweep may have corrected it.
        """
        walk = _Walk(await self._tickets())
        async for names in self._scan_keys(on_progress):
            await self._walk_records(walk, names)
            await self._walk_members(walk, names)
        faults = await self._check(walk.doubts)
        if faults:
            await asyncio.sleep(self._recheck_after)
            faults &= await self._check({fault.key: walk.doubts[fault.key] for fault in faults})
        in_order = sorted(faults, key=lambda fault: (fault.id, fault.key, fault.where))
        return VerifyReport(walk.operations, walk.members, in_order)

    async def repair(self, faults: Iterable[Fault]) -> int:
        """Repair the operations that still have faults. Returns how many were repaired.

        A repair may reveal more faults, for example of operations that waited in a serial queue behind a stray one. So
        verify again afterwards.
        """
        strays_of: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for fault in sorted(faults, key=lambda fault: _REPAIR_ORDER.get(fault.stage, len(_REPAIR_ORDER))):
            strays_of[fault.key] |= {(fault.where, fault.stray)} if fault.stray else set()
        return sum([await self._repair_one(key, strays) for key, strays in strays_of.items()])

    async def _repair_one(self, key: str, strays: set[tuple[str, str]]) -> bool:
        """Repair one operation, unless it has no fault any more or changes meanwhile.

        Returns whether it was repaired. A record that cannot be read is left as it is.
        """
        [seen] = await self._find([key], thorough=True)
        faults = await self._check({key: strays})
        if not faults or await self._store.damaged([key]):
            return False
        reply = await self._repair(
            key=key,
            revision=seen.fields["revision"] if seen else "",
            lease=round(LEASE * SECOND),
            strays=[text for fault in faults if fault.stray for text in (fault.where, fault.stray)],
        )
        known = {"operation_id": seen.fields["id"], "stage": seen.fields["stage"]} if seen else {}
        if reply != "MENDED":
            log.info("operation_not_repaired", key=key, reason=reply, **known)
            return False
        texts = sorted(f"{fault.where}: {fault.what}" for fault in faults)
        log.info("operation_repaired", key=key, faults=texts, **known)
        return True

    async def _scan_keys(self, on_progress: OnProgress | None) -> AsyncIterator[list[str]]:
        """Yield all keys of the database, step by step."""
        async with answering():
            size = int(await self._redis.dbsize())
        cursor, done = 0, 0
        while True:
            async with answering():
                cursor, names = await self._redis.scan(cursor, count=KEYS_STEP)
            yield [str(name) for name in names if str(name).isascii()]  # all of ours are
            done += len(names)
            if on_progress is not None:
                on_progress(done, max(done, size))
            if cursor == 0:
                return

    async def _tickets(self) -> set[int]:
        """The numbers of the tickets on RQ's queues."""
        listed: set[int] = set()
        for lane in QUEUES:
            start, full = 0, True
            while full:
                async with answering():
                    jobs = await self._redis.lrange(self._keys.queue(lane), start, start + TICKETS_STEP - 1)
                listed |= {parsed[1] for job in jobs if (parsed := rq_tickets.parse_job_id(str(job)))}
                start, full = start + TICKETS_STEP, len(jobs) == TICKETS_STEP
        return listed

    async def _walk_records(self, walk: _Walk, names: Sequence[str]) -> None:
        """Check each operation among these keys: whether its record can be read, and it is where the record says."""
        prefix = self._keys.operation("")
        keys = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for part in _batches(keys, OPERATIONS_STEP):
            damaged = await self._store.damaged(part)
            for key, seen in zip(part, await self._find(part, thorough=False), strict=True):
                walk.operations += 1
                if key in damaged or seen is None or self._places.faults(_with_ticket(seen, walk.listed)):
                    walk.doubts[key] |= set()

    async def _walk_members(self, walk: _Walk, names: Sequence[str]) -> None:
        """Check each set among these keys: whether its members are operations that can belong to this set at all.

        Whether a member belongs there at its present stage is checked with its record, by `_walk_records`.
        """
        scans = [(name, 0) for name in names if self._places.hold_operations(name)]
        while scans:
            async with answering(), self._redis.pipeline(transaction=False) as pipe:
                for name, cursor in scans:
                    read = pipe.hscan if self._places.is_ids(name) else pipe.zscan
                    read(name, cursor, count=MEMBERS_STEP)
                replies = await pipe.execute()
            held = []
            for (name, _), (_, found) in zip(scans, replies, strict=True):
                pairs = found.items() if isinstance(found, dict) else ((member, member) for member, _ in found)
                held += [(name, member, key) for member, key in pairs]
            scans = [(name, cursor) for (name, _), (cursor, _) in zip(scans, replies, strict=True) if cursor]
            await self._walk_held(walk, held)

    async def _walk_held(self, walk: _Walk, held: Sequence[tuple[str, str, str]]) -> None:
        """Check members of sets. `held`: for each member the set, the member, and the key of the operation."""
        walk.members += len(held)
        held = [names for names in held if all(text.isascii() for text in names)]  # Redis's scripts get nothing else
        for part in _batches(held, OPERATIONS_STEP):
            verdicts = await self._strays(held=[text for names in part for text in names])
            for (name, member, key), verdict in zip(part, verdicts, strict=True):
                if verdict != "OK":
                    walk.doubts[key].add((name, member))

    async def _check(self, strays: Strays) -> set[Fault]:
        """Find the faults of operations, and the strays that are still in their sets.

        One script reads all about an operation, so nothing changes meanwhile.
        """
        faults: set[Fault] = set()
        for part in _batches(list(strays), OPERATIONS_STEP):
            seen = dict(zip(part, await self._find(part, thorough=True), strict=True))
            held = [(name, member, key) for key in part for name, member in strays[key]]
            verdicts = await self._strays(held=[text for names in held for text in names])
            for (name, member, key), verdict in zip(held, verdicts, strict=True):
                if verdict != "OK":
                    fields = _fields_of(seen[key])
                    faults.add(Fault(key, name, _STRAY[verdict], fields["id"], fields["stage"], stray=member))
            damaged = await self._store.damaged(part)
            faults |= {self._damage(key, reason, seen[key]) for key, reason in damaged.items()}
            for found in seen.values():
                if found is not None and found.key not in damaged:
                    faults |= set(self._places.faults(found))
        return faults

    def _damage(self, key: str, reason: str, found: Located | None) -> Fault:
        """The fault of a record that cannot be read. No rule of placement can be checked then."""
        fields = _fields_of(found)
        what = f"its record cannot be read: {reason}"
        return Fault(key, self._keys.operation(key), what, fields["id"], fields["stage"])

    async def _find(self, keys: Sequence[str], *, thorough: bool) -> list[Located | None]:
        """Read where operations are. None: there is no record.

        `thorough` also looks for tickets on RQ's queues, which takes long in long queues, and reads the names of the
        keys.
        """
        replies = await self._locate(thorough=int(thorough), asked=keys)
        return [
            Located(key, _NO_RECORD | as_hash(fields), as_hash(places), as_hash(names)) if fields else None
            for key, (fields, places, names) in zip(keys, replies, strict=True)
        ]


def _fields_of(found: Located | None) -> Mapping[str, str]:
    """The fields of a record; those of a fault's that has no record are empty."""
    return found.fields if found else _NO_RECORD | {"stage": ""}


def _with_ticket(seen: Located, listed: set[int]) -> Located:
    """Note that the ticket is on a queue, if it is in `listed`. Only a `thorough` read looks for it in the queue."""
    ticket = seen.fields["ticket"]
    return replace(seen, places={**seen.places, "ticket": ticket}) if int(ticket or 0) in listed else seen


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
