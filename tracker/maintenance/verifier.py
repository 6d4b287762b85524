"""A proof that every operation is where it belongs, and repair of what is not.

For people who look after an installation: it walks everything there is, beside the running service, in bounded steps.
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

PATIENCE = 3.0
"""Seconds after which a fault must still be there: longer than a worker's beat, a sweep, and the time from RQ's pop of
a ticket to its claim."""
STEP = 100
"""Operations that one script looks at."""
MEMBERS = 500
"""Members of a set in one step, and records asked for at once."""
NAMES = 1000
"""Names in one step through the server's keys."""
TICKETS = 5000
"""Tickets of a queue in one step."""
_TURN = {str(stage): turn for turn, stage in enumerate((Stage.RUNNING, Stage.DELAYED, Stage.QUEUED, Stage.PARKED))}
"""The order of repairs: whoever has begun takes its place in a line before others are sent on."""
_NO_RECORD = dict.fromkeys(("id", "revision", "ticket", "lane"), "")
_STRAY = {"GONE": "in it, and its record is gone", "ELSEWHERE": "in it, and belongs elsewhere"}


Strays = Mapping[str, set[tuple[str, str]]]
"""Operations' keys, each with names and members of sets that hold it and perhaps should not."""
Tell = Callable[[int, int], None]
"""Is told how many of how many keys of the server have been looked at."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a walk has found: how many operations, how many members of sets and indexes, and each fault."""

    operations: int
    members: int
    faults: Sequence[Fault]


@dataclass(slots=True)
class _Walk:
    """`listed` are the numbers of the tickets that were on RQ's queues when the walk began."""

    listed: set[int]
    operations: int = 0
    members: int = 0
    doubts: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))


class Verifier:
    """Verifies and repairs. Every method raises Unavailable while Redis is away; `patience` is in seconds."""

    def __init__(self, store: Store, settings: "Settings", *, patience: float = PATIENCE) -> None:
        self._redis, self._keys, self._patience = store.redis, store.keys, patience
        self._places = Placement(store.keys)
        constants = script_constants(store.keys, test_clock=settings.test_clock)
        self._locate = Script("read_memberships", store.redis, store.keys, constants)
        self._strays = Script("find_stray_members", store.redis, store.keys, constants)
        self._repair = Script("repair", store.redis, store.keys, constants)

    async def verify(self, tell: Tell | None = None) -> VerifyReport:
        """Walk everything.

        What looks wrong is looked at again, each operation in one moment, and once more after the patience: what
        was only moving, or is put right by a beat or a sweep, is no fault.
        """
        walk = _Walk(await self._tickets())
        async for names in self._names(tell):
            await self._walk_records(walk, names)
            await self._walk_members(walk, names)
        faults = await self._look(walk.doubts)
        if faults:
            await asyncio.sleep(self._patience)
            faults &= await self._look({fault.key: walk.doubts[fault.key] for fault in faults})
        in_order = sorted(faults, key=lambda fault: (fault.id, fault.key, fault.where))
        return VerifyReport(walk.operations, walk.members, in_order)

    async def repair(self, faults: Iterable[Fault]) -> int:
        """Put right what is still wrong; return how many operations were.

        A repair may bring others to light (who waited in line behind a stray one, say): verify again.
        """
        wrong: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for fault in sorted(faults, key=lambda fault: _TURN.get(fault.stage, len(_TURN))):
            wrong[fault.key] |= {(fault.where, fault.stray)} if fault.stray else set()
        return sum([await self._mend(key, strays) for key, strays in wrong.items()])

    async def _mend(self, key: str, strays: set[tuple[str, str]]) -> bool:
        [seen] = await self._find([key], thorough=True)
        faults = await self._look({key: strays})
        if not faults:
            return False
        word = await self._repair(
            key=key,
            revision=seen.fields["revision"] if seen else "",
            lease=round(LEASE * SECOND),
            strays=[text for fault in faults if fault.stray for text in (fault.where, fault.stray)],
        )
        known = {"operation_id": seen.fields["id"], "stage": seen.fields["stage"]} if seen else {}
        if word != "MENDED":
            log.info("operation_not_repaired", key=key, reason=word, **known)
            return False
        told = sorted(f"{fault.where}: {fault.what}" for fault in faults)
        log.info("operation_repaired", key=key, faults=told, **known)
        return True

    async def _names(self, tell: Tell | None) -> AsyncIterator[list[str]]:
        """Every key of the server, in steps."""
        async with answering():
            size = int(await self._redis.dbsize())
        cursor, done = 0, 0
        while True:
            async with answering():
                cursor, names = await self._redis.scan(cursor, count=NAMES)
            yield [str(name) for name in names]
            done += len(names)
            if tell is not None:
                tell(done, max(done, size))
            if cursor == 0:
                return

    async def _tickets(self) -> set[int]:
        listed: set[int] = set()
        for lane in QUEUES:
            start, full = 0, True
            while full:
                async with answering():
                    jobs = await self._redis.lrange(self._keys.queue(lane), start, start + TICKETS - 1)
                listed |= {parsed[1] for job in jobs if (parsed := rq_tickets.parse_job_id(str(job)))}
                start, full = start + TICKETS, len(jobs) == TICKETS
        return listed

    async def _walk_records(self, walk: _Walk, names: Sequence[str]) -> None:
        prefix = self._keys.operation("")
        keys = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for part in _parts(keys, STEP):
            for key, seen in zip(part, await self._find(part, thorough=False), strict=True):
                walk.operations += 1
                if seen is None or self._places.faults(_with_ticket(seen, walk.listed)):
                    walk.doubts[key] |= set()

    async def _walk_members(self, walk: _Walk, names: Sequence[str]) -> None:
        """See that each member of a set may ever be there; whether it is there rightly, its record tells."""
        at = [(name, 0) for name in names if self._places.hold_operations(name)]
        while at:
            async with answering(), self._redis.pipeline(transaction=False) as pipe:
                for name, cursor in at:
                    scan = pipe.hscan if self._places.is_ids(name) else pipe.zscan
                    scan(name, cursor, count=MEMBERS)
                answers = await pipe.execute()
            held = []
            for (name, _), (_, found) in zip(at, answers, strict=True):
                pairs = found.items() if isinstance(found, dict) else ((member, member) for member, _ in found)
                held += [(name, member, key) for member, key in pairs]
            at = [(name, cursor) for (name, _), (cursor, _) in zip(at, answers, strict=True) if cursor]
            await self._walk_held(walk, held)

    async def _walk_held(self, walk: _Walk, held: Sequence[tuple[str, str, str]]) -> None:
        walk.members += len(held)
        for part in _parts(held, STEP):
            words = await self._strays(held=[text for names in part for text in names])
            for (name, member, key), word in zip(part, words, strict=True):
                if word != "OK":
                    walk.doubts[key].add((name, member))

    async def _look(self, strays: Strays) -> set[Fault]:
        """Judge operations, each as it is in one moment, and whether the strays are still where they were."""
        faults: set[Fault] = set()
        for part in _parts(list(strays), STEP):
            seen = dict(zip(part, await self._find(part, thorough=True), strict=True))
            held = [(name, member, key) for key in part for name, member in strays[key]]
            words = await self._strays(held=[text for names in held for text in names])
            for (name, member, key), word in zip(held, words, strict=True):
                if word != "OK":
                    fields = found.fields if (found := seen[key]) else _NO_RECORD | {"stage": ""}
                    faults.add(Fault(key, name, _STRAY[word], fields["id"], fields["stage"], stray=member))
            for found in filter(None, seen.values()):
                faults |= set(self._places.faults(found))
        return faults

    async def _find(self, keys: Sequence[str], *, thorough: bool) -> list[Located | None]:
        answers = await self._locate(thorough=int(thorough), asked=keys)
        return [
            Located(key, _NO_RECORD | as_hash(fields), as_hash(places), as_hash(names)) if fields else None
            for key, (fields, places, names) in zip(keys, answers, strict=True)
        ]


def _with_ticket(seen: Located, listed: set[int]) -> Located:
    ticket = seen.fields["ticket"]
    return replace(seen, places={**seen.places, "ticket": ticket}) if int(ticket or 0) in listed else seen


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
