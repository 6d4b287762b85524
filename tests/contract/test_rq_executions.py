"""RQ's keys of an attempt by our worker: field by field what RQ's own worker writes."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from rq import Worker
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry

from tests.support.clock import Clock
from tests.support.consistency import assert_consistent
from tests.support.scheduling import KINDS, claims, create, pop, take
from tests.support.tickets import enqueued_by_rq
from tracker.domain import lifecycle
from tracker.domain.change import Change
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import CancelPending, Store

RUN_WITHIN = 900
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "<date>"),
    (re.compile(r"\d{10}\.\d{1,7}"), "<seconds>"),
    (re.compile(r"[0-9a-f]{32}-\d+"), "<job>"),
    (re.compile(r"[0-9a-f]{32}"), "<execution>"),
)


@pytest.fixture
def blocking(redis_url: str) -> Iterator["BlockingRedis"]:
    with BlockingRedis.from_url(redis_url) as client:
        yield client


def alike(text: Any) -> str:
    """A text with everything that is another each time replaced by what it is."""
    told = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    for pattern, word in VOLATILE:
        told = pattern.sub(word, told)
    return told


def names(blocking: Any) -> set[str]:
    """The keys of RQ's that are there."""
    return {name.decode() for name in blocking.scan_iter("rq:*")}


def seen_by_rq(blocking: Any) -> dict[str, Any]:
    """Every key of RQ's and its content, sorted sets without their scores.

    Lifetimes differ on purpose: RQ's keys of an execution run out when nobody renews them, ours end with the attempt,
    which somebody ends whatever becomes of its worker.
    """
    found: dict[str, Any] = {}
    for name in blocking.scan_iter("rq:*"):
        match blocking.type(name).decode():
            case "hash":
                content: Any = {alike(field): alike(value) for field, value in blocking.hgetall(name).items()}
            case "zset":
                content = [alike(member) for member in blocking.zrange(name, 0, -1)]
            case "set":
                content = {alike(member) for member in blocking.smembers(name)}
            case "list":
                content = [alike(member) for member in blocking.lrange(name, 0, -1)]
            case other:
                content = other
        found[alike(name)] = content
    return found


async def test_what_we_show_of_an_attempt_is_what_rqs_worker_would_have_written(store: Store, blocking: Any) -> None:
    record = await create(store)
    await take(store, "w1")
    ours = seen_by_rq(blocking)
    blocking.flushall()

    job_id = f"{record.key}-{record.ticket}"
    rq, job = enqueued_by_rq(blocking, job_id)
    blocking.lpop(rq.key)
    worker = Worker([rq], name="w1", connection=blocking)
    worker.prepare_execution(job)
    with blocking.pipeline() as pipe:
        job.prepare_for_execution(worker.name, pipeline=pipe)
        pipe.execute()
    blocking.delete(worker.key)  # the worker's own registration is not a claim's business
    assert ours == seen_by_rq(blocking)


async def test_rqs_own_classes_read_the_attempt(store: Store, blocking: Any) -> None:
    record = await create(store, run_within=float(RUN_WITHIN), priority="high")
    await take(store, "w1")
    job_id = f"{record.key}-{record.ticket}"
    job = Job.fetch(job_id, connection=blocking, serializer="json")
    assert (job.get_status(), job.worker_name) == (JobStatus.STARTED, "w1")
    assert job.started_at == job.last_heartbeat
    assert job.started_at is not None
    assert abs((datetime.now(UTC) - job.started_at).total_seconds()) < 60
    [execution] = Worker([], name="w1", connection=blocking).get_current_executions()
    assert execution == Execution.fetch(record.key, job_id, connection=blocking)
    assert (execution.job_id, execution.worker_name) == (job_id, "w1")
    assert execution.created_at == job.started_at
    assert [found.id for found in job.get_executions()] == [record.key]
    registry = StartedJobRegistry("operations.high", connection=blocking, serializer="json")
    assert registry.get_job_and_execution_ids() == [(job_id, record.key)]


async def test_rqs_maintenance_does_not_judge_an_attempt_within_an_hour_of_its_end(store: Store, blocking: Any) -> None:
    """`rq info` runs it, and would fail the job."""
    record = await create(store, run_within=float(RUN_WITHIN))
    await take(store, "w1")
    registry = StartedJobRegistry("operations", connection=blocking, serializer="json")
    now = blocking.time()[0]
    registry.cleanup(now + RUN_WITHIN + 3590)
    job = f"{record.key}-{record.ticket}"
    assert registry.get_job_ids() == [job]
    assert blocking.zscore(f"rq:executions:{job}", record.key) > now + RUN_WITHIN + 3590


ENDINGS: dict[str, Callable[[Record], Change]] = {
    "succeeds": lambda record: lifecycle.succeed(record, DONE, {}),
    "fails": lambda record: lifecycle.reject(record, DONE, {}),
    "waits for its backoff": lambda record: lifecycle.fail(record, DONE, {}, after=60.0),
    "is canceled": lifecycle.cancel,
}


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_nothing_is_left_of_an_attempt_that_has_ended(
    store: Store, blocking: Any, ending: str, deleted: bool
) -> None:
    await create(store)
    [running] = await take(store, "w1")
    if deleted:
        running = await store.apply(lifecycle.hide(running))
    with suppress(CancelPending):
        await store.apply(ENDINGS[ending](running))
        assert names(blocking) == {"rq:queues"}
    await assert_consistent(store)


async def test_an_attempt_that_is_handed_back_leaves_only_its_new_ticket(store: Store, blocking: Any) -> None:
    await create(store)
    [running] = await take(store, "w1")
    record = await store.apply(lifecycle.hand_back(running))
    assert names(blocking) == {"rq:queues", "rq:queue:operations", f"rq:job:{record.key}-{record.ticket}"}


async def test_nothing_is_left_of_an_attempt_whose_worker_was_lost(store: Store, blocking: Any, clock: Clock) -> None:
    record = await create(store)
    await take(store, "w1")
    await clock.advance(11)
    assert (await Sweeper(store).sweep()).lost == 1
    assert names(blocking) == {"rq:queues"}
    assert (await store.read([record.key]))[0].stage == "delayed"


async def test_what_is_parked_leaves_no_job_behind(store: Store, blocking: Any) -> None:
    for _ in range(3):
        await create(store, "capped", concurrency=1)
    await claims(store, kinds={})
    assert not list(blocking.scan_iter("rq:job:*"))


@pytest.mark.parametrize("kinds", [KINDS, {}], ids=["claimed", "parked"])
async def test_a_ticket_that_rq_handed_out_keeps_its_keys_in_rq(
    store: Store, blocking: Any, kinds: dict[str, str]
) -> None:
    record = await create(store)
    job = f"{record.key}-{record.ticket}"
    blocking.lpop("rq:queue:operations")
    before = {name: blocking.dump(name) for name in blocking.scan_iter("rq:*")}
    answer = await store.claim_ticket(job, worker="stock", kinds=kinds)
    if answer.started:
        await store.apply(lifecycle.succeed(answer.started[0], DONE, {}))
    assert {name: blocking.dump(name) for name in blocking.scan_iter("rq:*")} == before
    assert await pop(store) is None
