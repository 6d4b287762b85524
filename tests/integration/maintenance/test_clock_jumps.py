"""Jumps of the server's clock: nobody is charged, and what counts from a moment before the jump goes on."""

import time
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.records import claim, make_record
from tests.support.scheduling import create, now, take
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, RAISED, SECOND
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.errors import Unavailable
from tracker.maintenance.clock_watch import TOLERANCE, ClockWatch
from tracker.maintenance.sweeper import LOCK_TIMEOUT, Sweeper
from tracker.store.store import LEASE, Store
from tracker.store.worker_registry import WorkerRegistry

HOUR = 3600.0
JUMPS = pytest.mark.parametrize("seconds", [HOUR, -HOUR, 20.0, -20.0])


class Watch(ClockWatch):
    """A watch that sees the jumps of the test as jumps of the server."""

    def __init__(self, store: Store, jumping: "Jumping") -> None:
        super().__init__(store)
        self._jumping = jumping

    async def compare(self, server_time: float, asked: float) -> bool:
        return await super().compare(server_time + self._jumping.jumped, asked)


class Jumping:
    """A server whose clock jumps, and two processes that sweep. The test clock moves the time of the scripts only."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock, self.jumped = store, clock, 0.0
        self.sweepers = [Sweeper(store), Sweeper(store)]
        for sweeper in self.sweepers:
            sweeper.clock = Watch(store, self)

    async def sweep(self) -> None:
        """One second of both processes. The first one has the lock."""
        for sweeper in reversed(self.sweepers):
            await sweeper.clock.look()
        await self.sweepers[0].sweep()

    async def jump(self, seconds: float) -> None:
        await self._clock.advance(seconds)
        self.jumped += seconds

    async def wait(self, seconds: float) -> None:
        """Let time pass, without a jump."""
        await self._clock.advance(seconds)
        await self.sweep()


@pytest.fixture
async def jumping(store: Store, clock: Clock) -> Jumping:
    found = Jumping(store, clock)
    await found.sweep()
    return found


async def running(store: Store, **fields: Any) -> Record:
    record, _ = await store.create(make_record(**fields))
    return await claim(store, record)


@JUMPS
async def test_an_operation_whose_worker_beats_outlives_six_jumps(
    store: Store, jumping: Jumping, seconds: float
) -> None:
    records = [await running(store) for _ in range(10)]
    for _ in range(6):
        await jumping.jump(seconds)
        await jumping.sweep()
        await jumping.wait(2)
        assert await store.beat([(record.key, record.attempt) for record in records]) == ["OK"] * 10
        for _ in range(5):
            await jumping.wait(2)
            await store.beat([(record.key, record.attempt) for record in records])
    after = [await now(store, record) for record in records]
    assert {(record.stage, record.attempt, record.suspected) for record in after} == {(Stage.RUNNING, 1, 0)}
    await assert_consistent(store)


@JUMPS
async def test_an_operation_whose_worker_is_lost_is_lost_one_lease_after_a_jump(
    store: Store, jumping: Jumping, seconds: float
) -> None:
    record = await running(store)
    await jumping.jump(seconds)
    await jumping.sweep()
    await jumping.wait(LEASE - 1)
    assert (await now(store, record)).stage is Stage.RUNNING
    await jumping.wait(2)
    assert (await now(store, record)).stage is Stage.DELAYED


async def test_a_jump_between_the_look_and_the_sweep_is_noticed(store: Store, jumping: Jumping) -> None:
    record = await running(store)
    await jumping.jump(HOUR)
    await jumping.sweepers[0].sweep()
    assert (await now(store, record)).stage is Stage.RUNNING


@JUMPS
async def test_an_operation_has_its_whole_time_to_start(store: Store, jumping: Jumping, seconds: float) -> None:
    record, _ = await store.create(make_record(policy=Policy(start_within=30.0)))
    await jumping.jump(seconds)
    await jumping.sweep()
    assert abs((await now(store, record)).start_by / SECOND - record.start_by / SECOND - seconds) < 1
    await jumping.wait(15)
    assert (await now(store, record)).stage is Stage.QUEUED
    await assert_consistent(store)
    await jumping.wait(16)
    assert (await now(store, record)).stage is Stage.FAILED


@JUMPS
async def test_a_retry_waits_for_its_backoff(store: Store, jumping: Jumping, seconds: float) -> None:
    record = await running(store)
    await store.apply(lifecycle.fail(record, RAISED, {}, after=30.0))
    await jumping.jump(seconds)
    await jumping.sweepers[1].clock.look()
    await jumping.sweep()
    await assert_consistent(store)
    await jumping.wait(31)
    assert (await now(store, record)).stage is Stage.QUEUED


@JUMPS
async def test_a_create_with_a_delay_waits_for_its_delay(store: Store, jumping: Jumping, seconds: float) -> None:
    record, _ = await store.create(make_record(), delay=30.0)
    await jumping.jump(seconds)
    await jumping.sweepers[1].clock.look()
    assert (await now(store, record)).not_before > record.not_before + (seconds - 1) * SECOND
    await jumping.wait(29)
    assert (await now(store, record)).stage is Stage.DELAYED
    await jumping.wait(3)
    assert (await now(store, record)).stage is Stage.QUEUED
    await assert_consistent(store)


async def test_a_later_start_that_a_create_asks_for_stays_at_its_time(store: Store, jumping: Jumping) -> None:
    seconds, _ = await store.redis.time()
    record, _ = await store.create(make_record(not_before=round((seconds + 2 * HOUR) * SECOND)))
    await jumping.jump(HOUR)
    await jumping.sweep()
    await jumping.wait(HOUR - 10)
    assert (await now(store, record)).stage is Stage.DELAYED
    await jumping.wait(11)
    assert (await now(store, record)).stage is Stage.QUEUED


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_an_ended_operation_is_kept_for_its_retention(store: Store, jumping: Jumping, seconds: float) -> None:
    record = await running(store, policy=Policy(retention=60.0))
    await store.apply(lifecycle.succeed(record, DONE, {}))
    await jumping.jump(seconds)
    await jumping.sweep()
    await jumping.wait(50)
    assert (await now(store, record)).stage is Stage.COMPLETED
    await assert_consistent(store)
    await jumping.wait(11 + max(0.0, -seconds))
    assert (await now(store, record)).stage is Stage.TOMBSTONE


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_rate_goes_on(store: Store, jumping: Jumping, seconds: float) -> None:
    for _ in range(3):
        await create(store, "plain", rate=1, per=30.0)
    assert len(await take(store)) == 1
    await jumping.jump(seconds)
    await jumping.sweep()
    await jumping.wait(31)
    assert len(await take(store)) == 1
    assert await take(store) == []


async def test_a_ticket_that_is_missing_for_a_moment_has_not_vanished_by_a_jump(store: Store, jumping: Jumping) -> None:
    record, _ = await store.create(make_record())
    await store.redis.delete(store.keys.queue("default"))
    await jumping.sweep()
    for seconds in (HOUR, -HOUR):
        await jumping.jump(seconds)
        await jumping.sweep()
        assert (await now(store, record)).vanished == 0
    await jumping.wait(LEASE + 1)
    await jumping.wait(1)
    assert (await now(store, record)).vanished == 1


@JUMPS
@pytest.mark.parametrize("step", ["clock_jumped", "shift_times"])
async def test_a_jump_is_dealt_with_though_redis_goes_away_meanwhile(
    store: Store, jumping: Jumping, monkeypatch: pytest.MonkeyPatch, seconds: float, step: str
) -> None:
    record, _ = await store.create(make_record(policy=Policy(start_within=1000.0)))

    async def away(**_: Any) -> None:
        raise Unavailable("away")

    await jumping.jump(seconds)
    with monkeypatch.context() as patch:
        patch.setattr(store, step, away)
        with pytest.raises(Unavailable):
            await jumping.sweepers[0].clock.look()
    await jumping.sweepers[0].clock.look()
    assert abs((await now(store, record)).start_by - record.start_by - seconds * SECOND) < SECOND


@JUMPS
async def test_what_is_set_after_a_jump_and_before_it_is_noticed_is_right(
    store: Store, jumping: Jumping, seconds: float
) -> None:
    await jumping.jump(seconds)
    waits, _ = await store.create(make_record(policy=Policy(start_within=30.0)), delay=20.0)
    fails = await running(store)
    await store.apply(lifecycle.fail(fails, RAISED, {}, after=20.0))
    await jumping.sweep()
    assert (await now(store, waits)).start_by == waits.start_by
    await jumping.wait(10)
    assert [(await now(store, record)).stage for record in (waits, fails)] == [Stage.DELAYED] * 2
    await jumping.wait(11)
    assert [(await now(store, record)).stage for record in (waits, fails)] == [Stage.QUEUED] * 2


@JUMPS
async def test_a_process_that_notices_a_jump_late_shifts_nothing_again(
    store: Store, jumping: Jumping, seconds: float
) -> None:
    record, _ = await store.create(make_record(policy=Policy(start_within=1000.0)))
    await jumping.jump(seconds)
    await jumping.sweepers[1].clock.look()
    once = (await now(store, record)).start_by
    await jumping.jump(2 * seconds)
    await jumping.sweepers[1].clock.look()
    twice = (await now(store, record)).start_by
    await jumping.wait(100)
    assert await jumping.sweepers[0].clock.look() is False
    assert (await now(store, record)).start_by == twice
    assert abs(twice - record.start_by - 3 * seconds * SECOND) < SECOND
    assert abs(once - record.start_by - seconds * SECOND) < SECOND


async def test_a_process_that_was_suspended_shifts_nothing(store: Store, jumping: Jumping) -> None:
    record, _ = await store.create(make_record(policy=Policy(start_within=HOUR)))
    asleep = ClockWatch(store, monotonic=time.monotonic)
    await asleep.look()
    for _ in range(10):
        await jumping.wait(1)
    asleep.monotonic = lambda: time.monotonic() - 20
    await asleep.look()
    assert (await now(store, record)).start_by == record.start_by


async def test_the_lock_of_a_dead_sweeper_does_not_last_as_long_as_a_jump_back(store: Store, jumping: Jumping) -> None:
    """Redis keeps a time to live as a time of its clock."""
    await store.redis.set(store.keys.sweeper, "dead", px=round((HOUR + LOCK_TIMEOUT) * 1000))
    await jumping.jump(-HOUR)
    await jumping.sweepers[1].clock.look()
    assert 0 < await store.redis.pttl(store.keys.sweeper) <= LOCK_TIMEOUT * 1000


async def test_workers_that_were_lost_before_a_jump_back_are_not_taken_for_alive(
    store: Store, jumping: Jumping
) -> None:
    await WorkerRegistry(store).announce("lost", {})
    before: Any = await store.redis.zscore(store.keys.workers, "lost")
    await jumping.jump(-HOUR)
    await jumping.sweep()
    after: Any = await store.redis.zscore(store.keys.workers, "lost")
    assert abs(before - HOUR - after) < 10


@pytest.fixture
def watch(store: Store) -> tuple[ClockWatch, list[float]]:
    """A watch, and a list with the time of its process."""
    times = [1000.0]
    return ClockWatch(store, monotonic=lambda: times[0]), times


@pytest.mark.parametrize(
    ("server", "took", "jumped"),
    [
        (1.0, 0.0, False),
        (1.0 + TOLERANCE - 0.01, 0.0, False),
        (1.0 - TOLERANCE + 0.01, 0.0, False),
        (1.1 + TOLERANCE, 0.0, True),
        (0.9 - TOLERANCE, 0.0, True),
        (5.0, 5.0, False),
        (1.0, 5.0, False),
        (30.0, 5.0, True),
    ],
)
async def test_a_slow_reply_is_no_jump(
    watch: tuple[ClockWatch, list[float]], server: float, took: float, jumped: bool
) -> None:
    clock, times = watch
    assert not await clock.compare(50_000.0, times[0])
    times[0] += 1.0
    asked = times[0]
    times[0] += took
    assert await clock.compare(50_000.0 + server, asked) is jumped
    times[0] += 1.0
    assert not await clock.compare(50_000.0 + server + 1.0, times[0]), "it is noticed once"
