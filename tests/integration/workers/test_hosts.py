"""The processes that run handlers: real ones, without Redis."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import host_handlers
from tests.support.executors import alive
from tracker.domain.operation import Json
from tracker.domain.type_registry import load_types
from workers.fork_server import ForkServer
from workers.frames import ProgressReport, RunAttempt
from workers.host import Death, Host, HostKind

ROOT = Path(__file__).parents[3]
COROUTINE, FUNCTION = HostKind.COROUTINE, HostKind.FUNCTION
WITHIN = 15.0
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def plain(message: Any) -> Json:
    if isinstance(message, ProgressReport):
        return {"ref": message.run_id, "progress": message.percent, "detail": message.detail}
    outcome = message.outcome
    fields = outcome._asdict()
    if "result" in fields:
        fields["result"] = fields["result"].model_dump()
    name = {"RetryRequested": "retry"}.get(type(outcome).__name__, type(outcome).__name__.lower())
    return {"ref": message.run_id, "outcome": name, "rss": fields.pop("peak_rss"), **fields}


class Crew:
    """Hosts of one fork_server, and what each attempt said."""

    def __init__(self, fork_server: ForkServer) -> None:
        self.fork_server = fork_server
        self.said: dict[int, list[Json]] = {}
        self._news = asyncio.Condition()
        self._told: set[asyncio.Task[None]] = set()
        self._ref = 0

    async def host(self, kind: HostKind) -> Host:
        return await asyncio.wait_for(self.fork_server.start_host(kind, self.hear), WITHIN)

    def hear(self, message: Any) -> None:
        self.said.setdefault(message.run_id, []).append(plain(message))
        task = asyncio.ensure_future(self._tell())
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def begin(self, host: Host, name: str, **members: Any) -> int:
        """Order an attempt; returns its ref."""
        self._ref += 1
        host.run(RunAttempt(self._ref, f"#hosts.{name}", f"op-{self._ref}", "call", 2, "a key", members, "mine"))
        return self._ref

    async def until(self, check: Callable[[], Any]) -> None:
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(check), WITHIN)

    async def begun(self, ref: int) -> Json:
        """The attempt's first message."""
        await self.until(lambda: self.said.get(ref))
        return self.said[ref][0]

    async def outcome(self, ref: int) -> Json:
        await self.until(lambda: "outcome" in (self.said.get(ref) or [{}])[-1])
        return self.said[ref][-1]

    async def run(self, host: Host, name: str, **members: Any) -> Json:
        return await self.outcome(self.begin(host, name, **members))

    def outcomes(self) -> list[str]:
        return [line["outcome"] for lines in self.said.values() for line in lines if "outcome" in line]


@pytest.fixture
def fork_server() -> Iterator[ForkServer]:
    forked = ForkServer.fork(load_types([host_handlers.__name__]))
    yield forked
    assert not alive(forked.pid)


@pytest.fixture
async def crew(fork_server: ForkServer) -> AsyncIterator[Crew]:
    await fork_server.open()
    try:
        yield Crew(fork_server)
    finally:
        await fork_server.close()


def gone(*pids: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return not any(alive(pid) for pid in pids)

    return check


async def death(host: Host) -> Death:
    return await asyncio.wait_for(asyncio.shield(host.death), WITHIN)


@pytest.mark.parametrize("kind", HostKind)
@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("rejected", {"outcome": "rejected", "result": {"code": 400, "subcode": 7, "message": "not like this"}}),
        ("retry", {"outcome": "retry", "after": 2.0}),
        ("retry with an error for its message", {"outcome": "raised"}),
        ("value", {"outcome": "raised"}),
        ("exit", {"outcome": "raised"}),
        ("interrupt", {"outcome": "raised"}),
        ("nonsense", {"outcome": "raised"}),
    ],
)
async def test_whatever_ends_a_handler_is_an_outcome_and_its_host_goes_on(
    crew: Crew, kind: HostKind, how: str, outcome: Json
) -> None:
    host = await crew.host(kind)
    name, other = ("ending", "echo") if kind is COROUTINE else ("endingFunction", "echoFunction")
    said = await crew.run(host, name, how=how)
    assert {key: said[key] for key in outcome} == outcome
    assert "a secret" not in str(said["result"])
    assert (await crew.run(host, other, text="still here"))["members"] == {"echo": "still here"}


@pytest.mark.parametrize("kind", HostKind)
async def test_a_report_that_is_no_text_harms_nobody_else(crew: Crew, kind: HostKind) -> None:
    host = await crew.host(kind)
    name, other = ("ending", "echo") if kind is COROUTINE else ("endingFunction", "echoFunction")
    refs = [crew.begin(host, name, how="bytes as detail"), crew.begin(host, other, text="next")]
    assert [len(await crew.outcome(ref)) > 0 for ref in refs] == [True, True]


@pytest.mark.parametrize(("how", "retryable"), [("timeout", True), ("file", False), ("value", False)])
async def test_what_a_handler_raises_is_retried_as_its_type_says(crew: Crew, how: str, retryable: bool) -> None:
    host = await crew.host(COROUTINE)
    assert (await crew.run(host, "ending", how=how))["retryable"] is retryable


async def test_half_a_surrogate_pair_becomes_a_question_mark(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "endingFunction", how="half a surrogate pair")
    assert (await crew.begun(ref))["detail"] == "caf?"
    assert (await crew.outcome(ref))["outcome"] == "succeeded"


async def test_a_function_reports_before_its_outcome_which_tells_its_memory(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    small = host.rss()
    await crew.run(host, "eating", mib=200)
    outcome = await crew.run(host, "echoFunction", text="abc")
    ref = outcome["ref"]
    assert crew.said[ref][0] == {"ref": ref, "progress": 40, "detail": "begun"}
    assert outcome["result"] == {"code": 200, "subcode": 2, "message": "a key"}
    assert outcome["rss"] > small + 150 * 1024 * 1024 > host.rss() > 0


async def test_a_thousand_coroutines_run_at_once_in_one_host(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    refs = [crew.begin(host, "meeting", number=1000) for _ in range(1000)]
    assert {(await crew.outcome(ref))["outcome"] for ref in refs} == {"succeeded"}


@pytest.mark.parametrize("kind", HostKind)
async def test_large_messages_both_ways_block_nobody(crew: Crew, kind: HostKind) -> None:
    host = await crew.host(kind)
    text = "x" * 60_000
    refs = [crew.begin(host, "echo" if kind is COROUTINE else "echoFunction", text=text) for _ in range(100)]
    assert all([(await crew.outcome(ref))["members"] == {"echo": text} for ref in refs])


async def test_a_coroutine_that_is_stopped_says_so_and_its_neighbours_go_on(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    one, other = crew.begin(host, "waiting"), crew.begin(host, "waiting", gate="other")
    await crew.begun(one)
    host.stop(one)
    assert (await crew.outcome(one))["outcome"] == "stopped"
    assert crew.said[one][-2]["detail"] == "asked True"
    await crew.run(host, "opening", gate="other")
    assert (await crew.outcome(other))["outcome"] == "succeeded"


async def test_a_coroutine_that_swallows_its_stop_runs_on_and_a_second_stop_does_nothing(crew: Crew) -> None:
    host = await crew.host(COROUTINE)
    ref = crew.begin(host, "waiting", gate="stubborn", stubborn=True)
    await crew.begun(ref)
    host.stop(ref)
    await crew.until(lambda: len(crew.said[ref]) > 1)
    host.stop(ref)
    await crew.run(host, "opening", gate="stubborn")
    assert (await crew.outcome(ref))["outcome"] == "succeeded"
    assert [line.get("detail") for line in crew.said[ref]] == ["begun", "asked True", None]


@pytest.mark.parametrize("kind", HostKind)
async def test_a_stop_that_comes_before_the_handler_has_begun_counts(crew: Crew, kind: HostKind) -> None:
    host = await crew.host(kind)
    for _ in range(50):
        ref = crew.begin(host, "waiting" if kind is COROUTINE else "sleeping")
        host.stop(ref)
        assert (await crew.outcome(ref))["outcome"] == "stopped"


async def test_a_function_that_is_stopped_says_so_and_its_host_goes_on(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "sleeping")
    await crew.begun(ref)
    host.stop(ref)
    assert (await crew.outcome(ref))["outcome"] == "stopped"
    assert (await crew.run(host, "echoFunction", text="next"))["outcome"] == "succeeded"
    assert not host.death.done()


async def test_a_function_that_swallows_its_stop_wins(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "sleeping", stubborn=True)
    await crew.begun(ref)
    host.stop(ref)
    assert (await crew.outcome(ref))["outcome"] == "succeeded"


async def test_a_stop_hits_no_other_attempt_than_its_own(crew: Crew) -> None:
    """Each stop races with the end of its function and the beginning of the next."""
    host = await crew.host(FUNCTION)
    for number in range(300):
        ended, follower = crew.begin(host, "echoFunction"), crew.begin(host, "echoFunction", text=str(number))
        await crew.begun(ended)
        host.stop(ended)
        assert (await crew.outcome(follower))["members"] == {"echo": str(number)}
        assert (await crew.outcome(ended))["outcome"] in {"succeeded", "stopped"}


async def test_a_function_that_reports_without_end_can_be_stopped(crew: Crew) -> None:
    """Its line is full: a stop must not cut a message in two."""
    host = await crew.host(FUNCTION)
    for _ in range(20):
        ref = crew.begin(host, "chatty")
        await crew.begun(ref)
        host.stop(ref)
        assert (await crew.outcome(ref))["outcome"] == "stopped"


async def test_a_process_that_a_function_starts_can_be_interrupted(crew: Crew) -> None:
    host = await crew.host(FUNCTION)
    ref = crew.begin(host, "interrupting")
    assert (await crew.outcome(ref))["outcome"] == "succeeded"
    assert crew.said[ref][0]["detail"] == "ended True"


@pytest.mark.parametrize("kind", HostKind)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_every_process_is_the_managers_business(crew: Crew, kind: HostKind, signum: int) -> None:
    """systemd and terminals send it to all; the manager decides, its hosts and fork_server work on."""
    host = await crew.host(kind)
    name = "echo" if kind is COROUTINE else "echoFunction"
    await crew.run(host, name)
    os.kill(crew.fork_server.pid, signum)
    os.kill(host.pid, signum)
    assert (await crew.run(host, name))["outcome"] == "succeeded"
    assert (await crew.run(await crew.host(kind), name))["outcome"] == "succeeded"
