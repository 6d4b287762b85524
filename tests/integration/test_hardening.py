"""Promises under rare conditions: failovers, lost answers, odd input, processes that die at the wrong time."""

import asyncio
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from tests.clock import Clock
from tests.factories import make_record
from tests.waiting import eventually
from tracker import Operation, Rejected, Retry, lifecycle, log
from tracker.api.auth import open_callers
from tracker.background import beside
from tracker.calls import Calls
from tracker.config import Settings, load
from tracker.connection import open_redis
from tracker.drafts import check_call_id, read_draft
from tracker.embedded import start_server
from tracker.errors import ConfigurationError, Invalid, Refused, Unavailable
from tracker.model import DONE, Policy, Record, Stage
from tracker.store import Overdue, Store
from tracker.sweeper import Sweeper
from tracker.types import Catalogue, OperationType, canonical, load_types
from workers import child, job
from workers.attempt import Attempt, Handler, Stop

ROOT = Path(__file__).parents[2]
TYPES = [canonical("#microsoft.graph.commsOperation")]


@pytest.fixture
def catalogue(settings: Settings) -> Catalogue:
    return load_types(settings.type_modules)


async def running(store: Store, **fields: Any) -> Record:
    record, _ = await store.create(make_record(**fields))
    return await store.claim(record.key, record.ticket, worker="w1", types=TYPES)


# --- the lifecycle


def test_declines_do_not_use_up_the_tickets_that_may_vanish() -> None:
    record = make_record(ticket=1)
    for _ in range(4):
        declined = lifecycle.decline(record)
        record = dataclasses.replace(record, **declined.fields)
    assert lifecycle.vanish(record).stage is Stage.DELAYED, "one lost ticket after four declines ends it 503/2"


def test_an_operation_may_be_declined_for_days() -> None:
    record = make_record(ticket=1)
    for _ in range(1100):  # at a minute each, 18 hours
        record = dataclasses.replace(record, **lifecycle.decline(record).fields)
    assert lifecycle.decline(record).delay == lifecycle.DECLINE_CAP


async def test_a_renewed_lease_is_not_lost_when_a_cancel_is_pending(store: Store, clock: Clock) -> None:
    record = await running(store)
    seen = await store.apply(lifecycle.request_cancel(record))
    await clock.advance(11)
    decided = lifecycle.lose(seen)
    await store.beat(record)
    with pytest.raises(Refused):
        await store.apply(decided)


# --- the record


def test_an_endless_retention_is_refused_at_start_or_can_be_stored() -> None:
    """Now it is accepted, and the script that ends the operation fails half-way: stage `running`, no lease."""
    with pytest.raises(ValidationError):
        Settings(retention=math.inf)


async def test_an_id_whose_record_redis_expired_can_be_used_again(store: Store) -> None:
    """The safety net took the record: nobody swept for a day after its retention."""
    record = await running(store, id="mine", client_context="c")
    await store.apply(lifecycle.succeed(record, DONE, {}))
    await store.redis.delete(store.keys.operation(record.key))
    assert await store.expire(10) == (0, 0)
    _, new = await store.create(make_record(id="mine"))
    assert new


async def test_no_index_names_a_record_that_redis_expired(store: Store) -> None:
    record = await running(store, client_context="c")
    await store.apply(lifecycle.succeed(record, DONE, {}))
    await store.redis.delete(store.keys.operation(record.key))
    await Calls(store).page("test", record.call_id, status=None, client_context=None, cursor=None, top=5)
    assert await Calls(store).count("test", record.call_id, status=None, client_context=None) == 0


async def test_a_repeated_change_whose_answer_was_lost_is_the_same_change(store: Store) -> None:
    """The client sends a broken connection's command again: a delete answers 410, an outcome looks refused."""
    change = lifecycle.succeed(await running(store), DONE, {})
    first = await store.apply(change)
    assert await store.apply(change) == first


async def test_a_page_of_one_reads_few_times_however_many_do_not_match(store: Store) -> None:
    for _ in range(60):
        await store.create(make_record(client_context="x"))
    before = (await store.redis.info("commandstats"))["cmdstat_zrange"]["calls"]
    part = await Calls(store).page("test", "call-1", status="Failed", client_context="x", cursor=None, top=1)
    reads = (await store.redis.info("commandstats"))["cmdstat_zrange"]["calls"] - before
    assert not part.records
    assert reads < 10


# --- Redis refuses to write


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = start_server(tmp_path / "valkey")
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("TRACKER_TEST_CLOCK", "1")
    try:
        yield server.url
    finally:
        server.stop()


@pytest.mark.usefixtures("own_server")
async def test_a_server_that_became_a_replica_is_unavailable() -> None:
    settings = Settings()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        await redis.replicaof("127.0.0.1", 1)
        with pytest.raises(Unavailable):
            await store.create(make_record())


@pytest.mark.usefixtures("own_server")
async def test_the_sweeper_goes_on_after_a_failover() -> None:
    settings = Settings()
    async with open_redis(settings) as redis:
        store = Store(redis, settings)
        record = await running(store)
        refused = asyncio.Event()

        class Watched(Sweeper):
            async def _has_lock(self) -> bool:
                try:
                    return await super()._has_lock()
                except Exception:
                    refused.set()
                    raise

        async with beside(Watched(store, every=0.05).run()):
            await eventually(lambda: redis.exists(store.keys.sweeper))
            await redis.replicaof("127.0.0.1", 1)
            await asyncio.wait_for(refused.wait(), 10)
            await redis.replicaof("NO", "ONE")
            await Clock(redis, store.keys.clock).advance(11)

            async def repaired() -> bool:
                return (await store.read([record.key]))[0].charged == 1

            await eventually(repaired, within=8)


async def test_one_record_that_cannot_be_read_does_not_stop_all_repairs(store: Store, clock: Clock) -> None:
    """A newer version's stage, say, during a rolling update."""
    strange, lost = await running(store), await running(store)
    await store.redis.hset(store.keys.operation(strange.key), "policy", "[1]")
    await clock.advance(11)

    async def repaired() -> bool:
        return (await store.read([lost.key]))[0].charged == 1

    async with beside(Sweeper(store, every=0.05).run()):
        await eventually(repaired, within=3)


async def test_an_outage_charges_no_attempt_whose_worker_is_well(
    store: Store, settings: Settings, clock: Clock
) -> None:
    """Nobody could beat while Redis was away; the first sweep after it comes before the next beats."""
    away, met, swept = True, asyncio.Event(), asyncio.Event()

    class Flaky(Store):
        async def overdue(self, limit: int) -> Overdue:
            if away:
                met.set()
                raise Unavailable("away")
            return await super().overdue(limit)

        async def expire(self, limit: int) -> tuple[int, int]:
            swept.set()
            return await super().expire(limit)

    record = await running(store)
    async with beside(Sweeper(Flaky(store.redis, settings), every=0.05).run()):
        await asyncio.wait_for(met.wait(), 5)
        await clock.advance(11)
        away = False
        await asyncio.wait_for(swept.wait(), 5)
    await store.beat(record)
    assert (await store.read([record.key]))[0].charged == 0


# --- what clients and handlers say


def test_a_client_cannot_set_a_result_member_by_its_python_name(catalogue: Catalogue) -> None:
    body = {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "prompts": [{"mediaInfo": {"uri": "http://media/a.wav"}}],
        "completion_reason": "completedSuccessfully",
    }
    draft = read_draft("call", body, catalogue)
    operation: Any = draft.type.model.from_members(draft.members, None)
    assert operation.completion_reason is None


def test_a_dynamic_member_may_have_the_python_name_of_a_declared_one(catalogue: Catalogue) -> None:
    assert read_draft("call", {"client_context": 7}, catalogue).members == {"client_context": 7}


def test_a_call_id_holds_no_control_character() -> None:
    with pytest.raises(Invalid):
        check_call_id("a\x85b")


class _Strict(Operation, type="#review.strict"):
    when: datetime = Field(strict=True)


def test_what_was_accepted_at_create_can_be_rebuilt_for_its_handler() -> None:
    entry = OperationType("#review.strict", _Strict, None)
    members = entry.validate({"when": "2026-01-31T12:00:00Z"})
    assert _Strict.from_members(members, None).when.year == 2026


async def test_a_type_is_found_by_workers_as_it_is_found_by_the_api(store: Store) -> None:
    """Lua's lower() knows ASCII only: such a name is refused when it is declared, or claimed."""
    try:

        class Umlaut(Operation, type="#review.Übersetzung"):
            pass
    except ConfigurationError:
        return
    record, _ = await store.create(make_record(type=Umlaut.odata_type))
    claimed = await store.claim(record.key, record.ticket, worker="w", types=[canonical(Umlaut.odata_type)])
    assert claimed.stage is Stage.RUNNING


def test_a_rejection_with_a_long_message_is_still_a_rejection() -> None:
    assert Rejected("x" * 5000).result.code == 400


@pytest.mark.parametrize("after", [math.inf, math.nan, -1.0])
def test_a_retry_after_no_real_time_is_refused_where_it_is_raised(after: float) -> None:
    with pytest.raises((ConfigurationError, ValueError)):
        Retry(after=after)


async def test_a_result_member_that_is_not_json_is_the_handlers_failure() -> None:
    class Measure(Operation, type="#review.measure"):
        value: float | None = Field(None, json_schema_extra={"readOnly": True})

    entry = OperationType("#review.measure", Measure, None)
    operation = Measure()
    operation.value = math.nan
    with pytest.raises(ValueError, match=r"."):
        child._result_members(entry, operation)  # the API would answer the bare word NaN


# --- the attempt


async def _attempt(store: Store, catalogue: Catalogue, handler: Handler, record: Record) -> Record:
    await asyncio.wait_for(Attempt(store, catalogue, handler, worker="w").run(record.key, record.ticket), 20)
    return (await store.read([record.key]))[0]


@pytest.fixture
def review_types() -> Catalogue:
    """Types of this module, whose handlers run in forked children of the test."""

    class Named(Operation, type="#review.named"):
        pass

    class Unlucky(Operation, type="#review.unlucky"):
        pass

    class Slow(Operation, type="#review.slow"):
        pass

    async def named(_operation: Named, context: Any) -> None:
        await context.progress(50, os.fsdecode(b"caf\xe9.wav"))

    async def unlucky(_operation: Unlucky, _context: Any) -> None:
        raise Retry(os.fsdecode(b"caf\xe9.wav"))

    async def slow(_operation: Slow, _context: Any) -> None:
        await asyncio.sleep(60)

    types = Catalogue()
    for model, handler in ((Named, named), (Unlucky, unlucky), (Slow, slow)):
        types.add(OperationType(model.odata_type, model, handler))
    return types


@pytest.mark.parametrize(("kind", "stage"), [("named", Stage.COMPLETED), ("unlucky", Stage.DELAYED)])
async def test_a_file_name_that_is_no_utf_8_does_not_cost_the_outcome(
    store: Store, review_types: Catalogue, kind: str, stage: Stage
) -> None:
    record, _ = await store.create(make_record(type=f"#review.{kind}"))
    after = await _attempt(store, review_types, job._fork_handler(review_types), record)
    assert after.stage is stage


async def test_a_process_that_has_been_reaped_is_never_signalled(
    store: Store, review_types: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may be another process's by then: the outcome can wait for Redis as long as it takes."""
    record, _ = await store.create(make_record(type="#review.named"))
    handler = job._fork_handler(review_types)
    attempt = Attempt(store, review_types, handler, worker="w")
    signalled: list[int] = []
    real = os.kill

    async def committing(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(os, "kill", lambda pid, _signum: signalled.append(pid))
        attempt.stop(Stop.DRAIN)
        monkeypatch.setattr(os, "kill", real)

    monkeypatch.setattr(attempt, "_commit", committing)
    await attempt.run(record.key, record.ticket)
    assert not signalled


async def test_a_stop_that_comes_before_the_handler_has_begun_is_not_lost(review_types: Catalogue) -> None:
    handler = job._fork_handler(review_types)

    async def ignores() -> bool:
        return _holds_back(handler.pid)

    await eventually(ignores)
    os.kill(handler.pid, signal.SIGTERM)
    order = {"type": "#review.slow", "id": "i", "call_id": "c", "attempt": 1, "key": "k", "members": {}}
    handler.channel.sendall(json.dumps({**order, "client_context": None}).encode() + b"\n")
    handler.channel.settimeout(3)
    try:
        answer = await asyncio.to_thread(handler.channel.recv, 65536)
    except TimeoutError:
        answer = b"{}"
    finally:
        os.kill(handler.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, handler.pid, 0)
        handler.channel.close()
    assert json.loads(answer).get("outcome") == "stopped"


def _holds_back(pid: int) -> bool:
    """Whether a SIGTERM would be ignored or held back by that process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigBlk"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


async def test_a_claim_whose_answer_was_lost_is_asked_again(store: Store, review_types: Catalogue) -> None:
    """It holds the lease already: dropping it charges an attempt that never ran."""

    class Lossy(Store):
        lost = False

        async def claim(self, *args: Any, **kwargs: Any) -> Record:
            record = await super().claim(*args, **kwargs)
            if not self.lost:
                self.lost = True
                raise Unavailable("the answer was lost")
            return record

    lossy = Lossy(store.redis, Settings())
    record, _ = await store.create(make_record(type="#review.named", policy=Policy(attempts=1)))
    handler = job._fork_handler(review_types)
    await Attempt(lossy, review_types, handler, worker="w").run(record.key, record.ticket)
    assert (await store.read([record.key]))[0].stage is not Stage.RUNNING


@pytest.mark.usefixtures("settings")
def test_a_refused_ticket_leaves_no_zombie() -> None:
    """Under `rq worker --worker-class rq.SimpleWorker` each would stay for ever."""
    program = (
        "import os\n"
        "from workers.job import run_ticket\n"
        "run_ticket('0' * 32, 1, worker='w')\n"
        "try:\n"
        "    os.waitpid(-1, 0)\n"
        "except ChildProcessError:\n"
        "    print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"


def test_what_a_handler_prints_is_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child is killed as soon as its outcome is there: what it printed must be out by then."""

    class Printing(Operation, type="#review.printing"):
        pass

    def printing(_operation: Printing, _context: Any) -> None:
        print("said")

    def send_and_be_killed(channel: Any, line: Any) -> None:
        channel.sendall(json.dumps(line).encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)

    types = Catalogue()
    types.add(OperationType(Printing.odata_type, Printing, printing))
    monkeypatch.setattr(child, "_send", send_and_be_killed)
    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        handler = job._fork_handler(types)
        monkeypatch.undo()
    order = {"type": "#review.printing", "id": "i", "call_id": "c", "attempt": 1, "key": "k", "members": {}}
    handler.channel.sendall(json.dumps({**order, "client_context": None}).encode() + b"\n")
    os.waitpid(handler.pid, 0)
    handler.channel.close()
    assert (tmp_path / "output").read_text() == "said\n"


async def test_an_outcome_whose_answer_was_lost_is_written_once_and_not_called_refused(
    store: Store, review_types: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lossy(Store):
        lost = 0

        async def apply(self, change: lifecycle.Change) -> Record:
            record = await super().apply(change)
            if change.stage is Stage.COMPLETED and not self.lost:
                self.lost += 1
                raise Unavailable("the answer was lost")
            return record

    settings = Settings()
    log.configure(settings)
    lossy = Lossy(store.redis, settings)
    record, _ = await store.create(make_record(type="#review.named"))
    handler = job._fork_handler(review_types)
    await Attempt(lossy, review_types, handler, worker="w").run(record.key, record.ticket)
    told = capsys.readouterr().err
    assert lossy.lost == 1
    assert "operation_completed" in told
    assert "outcome_refused" not in told


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_clients_take_out_of_a_path_is_refused(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(Invalid):
        check_call_id(name)
    with pytest.raises(Invalid):
        read_draft("call", {"id": name}, catalogue)


@pytest.mark.parametrize("url", ["redis://h:port/0", "redis://h:99999999/0", "http://h"])
def test_a_redis_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_redis(load())


def test_one_token_cannot_belong_to_two_tenants(settings: Settings) -> None:
    digest = "0" * 64
    lines = f"one:a:{digest}\ntwo:b:{digest}"
    with pytest.raises(ConfigurationError, match="line 2 gives two the token of one"):
        open_callers(settings.model_copy(update={"tokens": lines}))
