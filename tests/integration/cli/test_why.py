"""`tracker why`: what the command says of each way in which an operation waits, runs or has ended."""

import asyncio
import json
import re
from typing import Any

import pytest
import typer

from tests.support.clock import Clock
from tests.support.placements import (
    Make,
    completed,
    delayed,
    deleted,
    queued,
    retried,
    running,
    waiting_for_process,
    waiting_for_rate,
    waiting_for_slot,
    waiting_for_type,
    waiting_in_serial_queue,
    with_missed_ticket,
)
from tests.support.records import make_record
from tests.support.scheduling import KINDS, create, now, take
from tracker.cli.output import CommandFailed, Exit, OutputFormat
from tracker.cli.why import why
from tracker.domain import blame, lifecycle
from tracker.domain.operation import DONE
from tracker.domain.record import Record
from tracker.maintenance.sweeper import Sweeper
from tracker.store.store import LEASE, Store
from tracker.store.worker_registry import WorkerRegistry

pytestmark = pytest.mark.usefixtures("settings")
ABOUT = {"host": "a", "pid": 1, "types": sorted(KINDS), "concurrency": 100, "processes": 4, "running": 3}


class Why:
    """Runs the command, as JSON and as a table."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, record: Record, **options: Any) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self.text(record.id, output=OutputFormat.JSON, **options))
        return told

    async def text(self, name: str, **options: Any) -> str:
        await asyncio.to_thread(why, name, **options)
        return self._capsys.readouterr().out

    async def reasons(self, record: Record) -> dict[str, dict[str, Any]]:
        """The reasons by their words; the table says the same sentences."""
        found = {reason["reason"]: reason for reason in (await self(record))["reasons"]}
        table = _without_numbers(await self.text(record.id))
        assert all(_without_numbers(reason["text"]) in table for reason in found.values())
        return found


def _without_numbers(text: str) -> str:
    """A text without lengths of time and other numbers: the command reads the clock anew each time it runs."""
    length = r"[0-9.]+ (?:s|min|h|d)(?: [0-9]+ (?:s|min|h))?"
    return re.sub(rf"in {length}|now \({length} late\)|{length}|[0-9.]+", "#", text)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Why:
    return Why(capsys)


@pytest.fixture
async def worker(store: Store) -> WorkerRegistry:
    """One of our workers that lives and has the test types."""
    workers = WorkerRegistry(store)
    await workers.announce("w1", ABOUT)
    return workers


async def test_a_queued_operation_shows_its_position_and_the_workers_that_could_take_it(
    store: Store, ask: Why, worker: WorkerRegistry
) -> None:
    await create(store)
    record = await queued(store)
    await create(store)
    await create(store, priority="high")
    found = await ask.reasons(record)
    assert list(found) == ["queue", "able_workers", "start_by"]
    assert found["queue"] == {
        "reason": "queue",
        "text": "It is at place 2 of 3 in the default lane.",
        "lane": "default",
        "position": 2,
        "among": 3,
    }
    assert found["able_workers"]["text"].startswith("Workers with its type: w1 (runs 3, room for 100 coroutines and 4")
    await worker.announce("w1", {**ABOUT, "running": 104})
    assert list(await ask.reasons(record)) == ["queue", "workers_full", "start_by"]


async def test_a_queued_operation_shows_its_position_among_those_of_its_tenant(store: Store, ask: Why) -> None:
    for _ in range(3):
        await create(store, tenant="flood")
    await create(store, tenant="own")
    record = await create(store, tenant="own")
    assert (await ask.reasons(record))["queue"] == {
        "reason": "queue",
        "text": "It is at place 2 of 2 of its tenant in the default lane, where 2 tenants take turns.",
        "lane": "default",
        "position": 2,
        "among": 2,
        "tenants": 2,
    }


async def test_a_queued_operation_without_a_worker_says_so(store: Store, ask: Why) -> None:
    record = await create(store)
    assert list(await ask.reasons(record)) == ["queue", "no_workers"]
    await store.redis.sadd("rq:workers", "rq:worker:stock", "rq:worker:dead")
    await store.redis.hset("rq:worker:stock", "birth", "now")
    found = await ask.reasons(record)
    assert list(found) == ["queue", "stock_workers"]
    assert "1 worker of RQ's own may have it" in found["stock_workers"]["text"]


async def test_a_type_that_no_worker_has_names_the_workers(store: Store, ask: Why, worker: WorkerRegistry) -> None:
    await worker.announce("w2", {**ABOUT, "types": []})
    await worker.announce("w1", {**ABOUT, "types": ["test.other"]})
    record = await waiting_for_type(store)
    found = await ask.reasons(record)
    assert list(found) == ["type", "no_worker_for_type", "start_by"]
    assert (found["no_worker_for_type"]["type"], found["no_worker_for_type"]["workers"]) == ("#test.all", ["w1", "w2"])


@pytest.mark.usefixtures("worker")
async def test_every_waiting_operation_shows_that_queues_are_suspended(store: Store, ask: Why) -> None:
    records = [await make(store) for make in (queued, waiting_in_serial_queue, delayed)]
    await store.redis.set("rq:suspended", 1)
    for record in records:
        assert "suspended" in await ask.reasons(record)


@pytest.mark.usefixtures("worker")
async def test_a_missing_ticket_and_a_missing_sweeper_are_shown(store: Store, ask: Why) -> None:
    record = await with_missed_ticket(store)
    assert list(await ask.reasons(record)) == ["ticket_missed", "no_sweeper", "able_workers", "start_by"]
    await store.redis.set(store.keys.sweeper, "somebody", ex=60)
    assert "no_sweeper" not in await ask.reasons(record)


@pytest.mark.usefixtures("worker")
async def test_a_serial_operation_names_the_head_of_its_queue(store: Store, ask: Why) -> None:
    last = await waiting_in_serial_queue(store)
    [head] = await take(store)
    await create(store, "all", serial=True)
    found = await ask.reasons(last)
    serial = found["serial"]
    assert serial["head"] == {"id": head.id, "key": head.key, "type": head.type, "stage": "running"}
    assert (serial["position"], serial["among"]) == (2, 3)
    assert f"behind {head.id}, which is running on w1, for " in serial["text"]


@pytest.mark.usefixtures("worker")
async def test_a_concurrency_limit_shows_how_many_run_and_how_many_wait_before(store: Store, ask: Why) -> None:
    record = await waiting_for_slot(store)
    found = await ask.reasons(record)
    cap = found["cap"]
    assert (cap["limit"], cap["running"], cap["let_through"], cap["position"], cap["among"]) == (2, 2, 0, 1, 1)
    assert cap["text"].startswith(
        "At most 2 of #test.all run at once, and 2 run or are about to start; it is at place 1 of 1"
    )


@pytest.mark.usefixtures("worker")
async def test_a_rate_limit_shows_when_the_next_start_is_allowed(store: Store, ask: Why, clock: Clock) -> None:
    record = await waiting_for_rate(store)
    rate = (await ask.reasons(record))["rate"]
    assert (rate["limit"], rate["per"]) == (1, 600.0)
    assert 0 < rate["opens_in"] <= 600
    await clock.advance(600)
    rate = (await ask.reasons(record))["rate"]
    assert "The next may start now" in rate["text"]


@pytest.mark.usefixtures("worker")
async def test_an_operation_that_waits_to_run_apart_says_why_and_where_it_stands(store: Store, ask: Why) -> None:
    blocked, isolated = await waiting_for_process(store), await create(store, "isolated")
    await take(store, apart=0)
    found = await ask.reasons(blocked)
    assert list(found) == ["apart", "able_workers"]
    assert found["apart"]["text"] == (
        "It waits until a worker has room for one more process of its own, because it has ended its process before, or "
        "its event loop was blocked. It is at place 1 of 1 among those of its type."
    )
    assert (found["apart"]["position"], found["apart"]["among"]) == (1, 1)
    assert "because its worker runs each operation of its type" in (await ask.reasons(isolated))["apart"]["text"]


@pytest.mark.usefixtures("worker")
async def test_a_suspect_says_how_many_of_its_attempts_died(store: Store, ask: Why, clock: Clock) -> None:
    record = await running(store)
    for deaths in (1, 2):
        await clock.advance(LEASE + 1)
        await store.apply(blame.lose(await now(store, record)))
        found = await ask.reasons(record)
        assert found["backoff"]["text"].startswith(f"Attempt {deaths} was lost (0 of 3 attempts charged); it is due in")
        assert found["runs_apart"]["suspected"] == deaths
        await clock.advance(2.0**deaths)
        await Sweeper(store).sweep()
        await take(store)
    text = (await ask.reasons(record))["apart"]["text"]
    assert text.startswith(
        "It waits for a worker that runs nothing else, because 2 attempts of it died, and the cause is not "
        "known (2 workers lost). It is at place 1 of 1"
    )
    assert "lose, not charged" in await ask.text(record.id)
    await take(store, idle=True)
    assert "on a worker that runs nothing else" in (await ask.reasons(record))["runs_apart"]["text"]


@pytest.mark.usefixtures("worker")
async def test_a_delay_shows_its_reason_and_its_length(store: Store, ask: Why, clock: Clock) -> None:
    early, again = await delayed(store), await retried(store)
    await clock.advance(1)
    soon = (await ask.reasons(early))["not_before"]
    assert 0 < soon["due_in"] < 600
    assert re.match("The create asked for a later start; it is due in [89] min", soon["text"])
    backoff = (await ask.reasons(again))["backoff"]
    assert re.match(r"Attempt 1 failed \(1 of 3 attempts charged\); it is due in [89] min", backoff["text"])
    await clock.advance(610)
    late = await ask.reasons(early)
    assert late["not_before"]["due_in"] < 0
    assert "it is due now (" in late["not_before"]["text"]
    assert "no_sweeper" in late


@pytest.mark.usefixtures("worker")
async def test_a_vanished_ticket_is_a_reason_of_its_own(store: Store, ask: Why, clock: Clock) -> None:
    record = await with_missed_ticket(store)
    await clock.advance(6)
    await Sweeper(store).sweep()
    found = await ask.reasons(record)
    assert found["ticket_vanished"]["text"].startswith("1 ticket left the queue unclaimed; it is due in ")


async def test_a_running_operation_shows_its_worker_lease_deadline_and_cancel(
    store: Store, ask: Why, worker: WorkerRegistry, clock: Clock
) -> None:
    record = await running(store)
    found = await ask.reasons(record)
    assert list(found) == ["running", "lease"]
    assert (found["running"]["worker"], found["running"]["attempt"]) == ("w1", 1)
    assert 0 < found["running"]["deadline_in"] <= 900
    assert 0 < found["lease"]["lease_in"] <= 10
    await store.apply(lifecycle.request_cancel(record, "too slow", by="ops"))
    await worker.gone("w1")
    await clock.advance(11)
    found = await ask.reasons(record)
    assert list(found) == ["running", "cancel_requested", "lease_ran_out", "no_sweeper", "worker_silent"]
    assert found["cancel_requested"]["text"].endswith("ago by ops (too slow); its worker acts on it.")


async def test_an_ended_operation_shows_its_result(store: Store, ask: Why) -> None:
    found = await ask.reasons(await completed(store))
    assert list(found) == ["ended", "kept"]
    assert (found["ended"]["status"], found["ended"]["code"], found["ended"]["subcode"]) == ("Completed", 200, 0)
    assert found["ended"]["text"].endswith("after 1 attempt: 200/0 Action completed successfully.")
    canceled = await store.apply(lifecycle.request_cancel(await create(store), "changed my mind", by="ops"))
    found = await ask.reasons(canceled)
    assert found["ended"]["text"].endswith("ago, and never began: 499/0 The operation was canceled: changed my mind")
    assert found["canceled"]["text"] == "It was canceled by ops: changed my mind"
    assert list(await ask.reasons(await deleted(store))) == ["ended", "deleted"]


@pytest.mark.usefixtures("worker")
async def test_the_history_of_attempts_is_shown(store: Store, ask: Why) -> None:
    await create(store)
    [first] = await take(store)
    await store.apply(lifecycle.hand_back(first))
    [second] = await take(store, "w2")
    killed = lifecycle.fail(second, DONE, {}, after=0.0)
    evidence = {"signal": -9, "peak_rss": 900 * 2**20, "hint": "out of memory: its memory peaked at 900 MiB"}
    assert killed.entry is not None
    killed.entry.update(evidence)
    record = await store.apply(killed)
    history = (await ask(record))["history"]
    assert [(entry["attempt"], entry["worker"], entry["outcome"]) for entry in history] == [
        (1, "w1", "hand_back"),
        (2, "w2", "retry"),
    ]
    assert all(entry["started"].endswith("Z") and entry["ended"] >= entry["started"] for entry in history)
    assert history[1].items() >= evidence.items()
    assert history[1]["message"] == DONE.message, "why it failed is known before it has failed for good"
    assert "SIGKILL, 900 MiB, out of memory: its memory peaked at 900 MiB" in await ask.text(record.id)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("make", [queued, waiting_in_serial_queue, waiting_for_slot, delayed, running])
async def test_a_misplaced_operation_shows_the_command_that_verifies(store: Store, ask: Why, make: Make) -> None:
    record = await make(store)
    for name in (store.keys.ticketed("default", "test"), store.keys.leases, store.keys.due):
        await store.redis.zrem(name, record.key)
    await store.redis.delete(store.keys.serial_queue("test", record.call_id), store.keys.limiter(record.type, "parked"))
    found = await ask.reasons(record)
    assert "tracker doctor --verify" in found["misplaced"]["text"]


async def test_a_dead_worker_of_ours_is_not_counted_as_one_of_rqs_own(store: Store, ask: Why) -> None:
    """RQ goes on believing in it for eight minutes."""
    await store.redis.hset("rq:worker:dead", "birth", "then")
    await store.redis.sadd("rq:workers", "rq:worker:dead")
    record = await queued(store)
    assert "stock_workers" in await ask.reasons(record)
    await store.redis.zadd(store.keys.workers, {"dead": (await store.redis.time())[0] - 100})
    assert "stock_workers" not in await ask.reasons(record)


# --- which operation


async def test_it_is_found_by_id_in_any_tenant_by_tenant_and_by_key(store: Store, ask: Why) -> None:
    record = await create(store)
    assert (await ask(record))["key"] == record.key
    assert (await ask(record, tenant="test"))["tenant"] == "test"
    assert record.id in await ask.text(record.key)
    with pytest.raises(CommandFailed) as stop:
        await ask(record, tenant="other")
    assert stop.value.code is Exit.NOT_FOUND


async def test_an_id_that_two_tenants_have_asks_for_the_tenant(store: Store, ask: Why) -> None:
    await store.create(make_record(id="mine", tenant="a"))
    await store.create(make_record(id="mine", tenant="b"))
    with pytest.raises(CommandFailed) as stop:
        await ask.text("mine")
    assert (stop.value.code, stop.value.message.endswith("--tenant (a, b)")) == (Exit.USAGE, True)
    assert "of tenant b" in await ask.text("mine", tenant="b")


@pytest.mark.parametrize("name", ["nothing", "0" * 32])
def test_an_operation_that_is_not_there_is_exit_4(name: str) -> None:
    app = typer.Typer()
    app.command()(why)
    with pytest.raises(CommandFailed) as stop:
        app([name, "--tenant", "test", "-o", "json"], standalone_mode=False)
    assert (stop.value.code, stop.value.message) == (Exit.NOT_FOUND, f"There is no operation '{name}'.")


async def test_no_server_is_exit_3(ask: Why) -> None:
    with pytest.raises(CommandFailed) as stop:
        await ask.text("id", redis_url="redis://127.0.0.1:1/0")
    assert stop.value.code is Exit.UNREACHABLE


async def test_what_a_client_wrote_cannot_steer_the_terminal(store: Store, ask: Why) -> None:
    record = await create(store, call_id="\x1b[2Jcall", id="[red]x[/red]")
    text = await ask.text(record.id)
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
    assert (await now(store, record)).call_id == "\x1b[2Jcall"
