"""A long random walk: every index stays consistent, and every operation ends."""

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent, take_snapshot
from tests.support.scheduling import KINDS, chance, claims, create, pop
from tracker.domain import blame, lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE, LOST
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import IllegalTransition, NotFound, Refused
from tracker.maintenance.sweeper import Sweeper
from tracker.store.claim_shares import ClaimShares
from tracker.store.store import CancelPending, Store

STEPS = 500
CALLS = ("call-1", "call-2", "call-3")
TENANTS = ("test", "test", "other", "third")
TYPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "serial": {"serial": True},
    "capped": {"concurrency": 2},
    "rated": {"rate": 3, "per": 5.0},
    "function": {},
    "isolated": {"concurrency": 3},
}
FINAL = {Stage.COMPLETED, Stage.FAILED, Stage.TOMBSTONE}


class Walk:
    """One walk; each of its public methods is a step that may do nothing."""

    def __init__(self, store: Store, clock: Clock, chance: Random) -> None:
        self.store, self.clock, self.chance = store, clock, chance
        self.sweeper = Sweeper(store)
        self.known: list[str] = []
        self.batch = ("w1", "none")
        self.idle: dict[tuple[str, str], bool] = {}
        """Whether the worker of a claim was idle, by its batch."""
        self.starts: Counter[str] = Counter()

    async def create(self) -> None:
        kind = self.chance.choice(list(TYPES))
        options: dict[str, Any] = {"call_id": self.chance.choice(CALLS), "retention": 60.0, "tombstone": 30.0}
        if self.chance.random() < 0.2:
            options["delay"] = self.chance.uniform(0.1, 20)
        if self.chance.random() < 0.2:
            options["start_within"] = self.chance.uniform(5, 60)
        options["priority"] = self.chance.choice(["high", "default", "default", "low"])
        options["tenant"] = self.chance.choice(TENANTS)
        record = await create(self.store, kind, **options, **TYPES[kind])
        self.known.append(record.key)

    async def claim(self) -> None:
        self.batch = (self.chance.choice(["w1", "w2", "w3"]), str(self.chance.random()))
        await self._claim()

    async def claim_again(self) -> None:
        await self._claim()

    async def claim_without_a_type(self) -> None:
        self.batch = ("w2", str(self.chance.random()))
        lacking = self.chance.choice(list(TYPES))
        await self._claim({name: kind for name, kind in KINDS.items() if name != f"test.{lacking}"})

    async def _claim(self, kinds: dict[str, str] | None = None) -> None:
        worker, batch = self.batch
        room = {"coroutines": self.chance.randrange(1, 6), "functions": self.chance.randrange(2)}
        room["apart"] = self.chance.randrange(3)
        deep, chance = self.chance.random() < 0.7, self.chance.random()
        idle = self.idle.setdefault(self.batch, chance < 0.3)  # a claim that is repeated brings what the first took
        kinds = {**(kinds or KINDS), "test.isolated": self.chance.choice(["apart", "coroutines"])}
        shares = self._shares()
        got = await claims(self.store, worker, **room, deep=deep, idle=idle, kinds=kinds, batch=batch, shares=shares)
        if alone := [record for record in got.started if record.alone == record.attempt]:
            assert idle
            assert list(got.started) == alone
            assert len(alone) == 1
        self.starts.update(record.type for record in got.started)

    def _shares(self) -> ClaimShares:
        weights = {tenant: self.chance.randrange(1, 4) for tenant in TENANTS if self.chance.random() < 0.2}
        most = {kind: self.chance.randrange(1, 4) for kind in ("coroutines", "functions", "apart")}
        return ClaimShares(weights, most if self.chance.random() < 0.5 else None)

    async def stock_claim(self) -> None:
        got = await pop(self.store)
        if got is not None:
            self.starts.update(record.type for record in got.started)

    async def stock_claim_without_types(self) -> None:
        await pop(self.store, kinds={})

    async def lose_a_ticket(self) -> None:
        await self.store.redis.lpop(self.store.keys.queue("default"))

    async def find_a_foreign_job(self) -> None:
        await self.store.redis.rpush(self.store.keys.queue("default"), "not-ours")

    async def succeed(self) -> None:
        await self._apply_running(lambda record: lifecycle.succeed(record, DONE, {}))

    async def fail(self) -> None:
        await self._apply_running(lambda record: lifecycle.fail(record, DONE, {}, jitter=self.chance.uniform))

    async def retry_at_once(self) -> None:
        await self._apply_running(lambda record: lifecycle.fail(record, DONE, {}, after=0.0))

    async def reject(self) -> None:
        await self._apply_running(lambda record: lifecycle.reject(record, DONE, {}))

    async def hand_back(self) -> None:
        await self._apply_running(lifecycle.hand_back)

    async def lose(self) -> None:
        await self._apply_running(blame.lose)

    async def lose_hosts(self) -> None:
        await self._apply_running(blame.lose_hosts)

    async def die(self) -> None:
        proven = self.chance.random() < 0.5
        await self._apply_running(lambda record: blame.die(record, LOST, proven=proven))

    async def block(self) -> None:
        await self._apply_running(lambda record: blame.hand_back_blocked(record, "blocked"))

    async def _apply_running(self, decide: Callable[[Record], Change]) -> None:
        running = [record for record in await self._records() if record.stage is Stage.RUNNING]
        if running:
            await self._apply(self.chance.choice(running), decide)

    async def progress(self) -> None:
        await self._apply_running(lambda record: lifecycle.progress(record, 50, "half"))

    async def cancel(self) -> None:
        await self._apply_any(lifecycle.request_cancel)

    async def cancel_takes_effect(self) -> None:
        await self._apply_any(lifecycle.cancel)

    async def delete(self) -> None:
        await self._apply_any(lifecycle.hide)

    async def _apply_any(self, decide: Callable[[Record], Change]) -> None:
        records = await self._records()
        if records:
            await self._apply(self.chance.choice(records), decide)

    async def _apply(self, record: Record, decide: Callable[[Record], Change]) -> None:
        with suppress(Refused, IllegalTransition, CancelPending, NotFound):  # the walk asks for anything
            await self.store.apply(decide(record))

    async def beat(self) -> None:
        running = [record for record in await self._records() if record.stage is Stage.RUNNING]
        await self.store.beat([(record.key, record.attempt) for record in running])

    async def sweep(self) -> None:
        await self.sweeper.sweep()

    async def wait(self) -> None:
        await self.clock.advance(self.chance.choice([0.1, 1.0, 2.0, 6.0, 11.0]))

    async def suspend(self) -> None:
        await self.store.redis.set("rq:suspended", 1)

    async def resume(self) -> None:
        await self.store.redis.delete("rq:suspended")

    async def _records(self) -> list[Record]:
        return [record for record in await self.store.read(self.known) if record.stage not in FINAL]

    async def drain(self) -> None:
        """Let able workers do everything that is left."""
        await self.resume()
        for _ in range(200):
            for _ in range(3):
                got = await claims(self.store, "w1", idle=True)
                for record in got.started:
                    await self._apply(record, lambda record: lifecycle.succeed(record, DONE, {}))
            await self.clock.advance(2)
            await self.sweep()
            if not await self._records():
                return
        raise AssertionError(f"did not end: {await self._records()}")


WEIGHTS = {
    Walk.create: 12,
    Walk.claim: 8,
    Walk.claim_again: 2,
    Walk.claim_without_a_type: 1,
    Walk.stock_claim: 4,
    Walk.stock_claim_without_types: 1,
    Walk.lose_a_ticket: 1,
    Walk.find_a_foreign_job: 1,
    Walk.succeed: 6,
    Walk.fail: 2,
    Walk.retry_at_once: 1,
    Walk.reject: 1,
    Walk.hand_back: 2,
    Walk.lose: 1,
    Walk.lose_hosts: 1,
    Walk.die: 2,
    Walk.block: 1,
    Walk.progress: 1,
    Walk.cancel: 2,
    Walk.cancel_takes_effect: 1,
    Walk.delete: 1,
    Walk.beat: 4,
    Walk.sweep: 4,
    Walk.wait: 4,
    Walk.suspend: 1,
    Walk.resume: 2,
}


async def test_a_random_walk_keeps_every_index_consistent_and_every_operation_ends(store: Store, clock: Clock) -> None:
    walk = Walk(store, clock, chance())
    trail: list[str] = []
    steps: list[Callable[[Walk], Awaitable[None]]] = list(WEIGHTS)
    for number in range(STEPS):
        step = walk.chance.choices(steps, list(WEIGHTS.values()))[0]
        trail.append(step.__name__)
        try:
            await step(walk)
            await assert_consistent(store)
        except Exception as error:
            raise AssertionError(f"step {number}, after {trail[-5:]}: {error}") from error
    await walk.drain()
    await assert_consistent(store)
    seen = await take_snapshot(store)
    assert all(record.stage in FINAL for record in seen.records.values())
    assert all(walk.starts[f"#test.{kind}"] for kind in TYPES), walk.starts
    print(f"{len(walk.known)} operations, starts: {dict(walk.starts)}")
