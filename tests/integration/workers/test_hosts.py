"""Hosts, the processes that run handlers, without Redis."""

import os
import signal

import pytest

from tests.support.hosts import COROUTINE, FUNCTION, HostClient
from tracker.domain.operation import ResultInfo
from workers.frames import ProgressReport
from workers.host import HostKind
from workers.outcome import Outcome, Raised, Rejected, RetryRequested, Stopped, Succeeded


@pytest.mark.parametrize("kind", HostKind)
@pytest.mark.parametrize(
    ("how", "outcome", "message"),
    [
        ("rejected", Rejected, "not like this"),
        ("retry", RetryRequested, "later"),
        ("retry with an error for its message", Raised, "The handler failed: TypeError."),
        ("value", Raised, "The handler failed: ValueError."),
        ("exit", Raised, "The handler failed: SystemExit."),
        ("interrupt", Raised, "The handler failed: KeyboardInterrupt."),
        ("nonsense", Raised, "The handler failed: TypeError."),
        ("bytes as message", Raised, "The handler failed: TypeError."),
    ],
)
async def test_whatever_ends_a_handler_is_an_outcome_and_its_host_goes_on(
    host_client: HostClient, kind: HostKind, how: str, outcome: type[Outcome], message: str
) -> None:
    host = await host_client.host(kind)
    name, other = ("ending", "echo") if kind is COROUTINE else ("endingFunction", "echoFunction")
    ended = await host_client.run(host, name, how=how)
    assert type(ended) is outcome
    assert isinstance(ended, Rejected | RetryRequested | Raised)
    assert ended.result.message == message
    assert (await host_client.run(host, other, text="still here")).members == {"echo": "still here"}


@pytest.mark.parametrize("kind", HostKind)
async def test_a_progress_report_that_is_no_text_affects_no_other_attempt(
    host_client: HostClient, kind: HostKind
) -> None:
    host = await host_client.host(kind)
    name, other = ("ending", "echo") if kind is COROUTINE else ("endingFunction", "echoFunction")
    run_ids = [host_client.start(host, name, how="bytes as detail"), host_client.start(host, other, text="next")]
    assert [type(await host_client.outcome(run_id)) for run_id in run_ids] == [Raised, Succeeded]


@pytest.mark.parametrize(("how", "retryable"), [("timeout", True), ("file", False), ("value", False)])
async def test_what_a_handler_raises_is_retried_as_its_type_says(
    host_client: HostClient, how: str, retryable: bool
) -> None:
    host = await host_client.host(COROUTINE)
    outcome = await host_client.run(host, "ending", how=how)
    assert isinstance(outcome, Raised)
    assert outcome.retryable is retryable


async def test_half_a_surrogate_pair_becomes_a_question_mark(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "endingFunction", how="half a surrogate pair")
    assert await host_client.first_detail(run_id) == "caf?"
    assert isinstance(await host_client.outcome(run_id), Succeeded)


async def test_a_function_reports_progress_before_its_outcome_and_its_outcome_has_its_memory(
    host_client: HostClient,
) -> None:
    host = await host_client.host(FUNCTION)
    small = host.rss()
    await host_client.run(host, "eating", mib=200)
    run_id = host_client.start(host, "echoFunction", text="abc")
    outcome = await host_client.outcome(run_id)
    assert host_client.messages[run_id][0] == ProgressReport(run_id, 40, "begun")
    assert isinstance(outcome, Succeeded)
    assert outcome.result == ResultInfo(code=200, subcode=2, message="a key")
    assert outcome.peak_rss is not None
    assert outcome.peak_rss > small + 150 * 1024 * 1024 > host.rss() > 0


async def test_a_thousand_coroutines_run_at_once_in_one_host(host_client: HostClient) -> None:
    host = await host_client.host(COROUTINE)
    run_ids = [host_client.start(host, "meeting", number=1000) for _ in range(1000)]
    assert {type(await host_client.outcome(run_id)) for run_id in run_ids} == {Succeeded}


@pytest.mark.parametrize("kind", HostKind)
async def test_large_messages_both_ways_block_nobody(host_client: HostClient, kind: HostKind) -> None:
    host = await host_client.host(kind)
    text = "x" * 60_000
    run_ids = [host_client.start(host, "echo" if kind is COROUTINE else "echoFunction", text=text) for _ in range(100)]
    assert all([(await host_client.outcome(run_id)).members == {"echo": text} for run_id in run_ids])


async def test_a_stopped_coroutine_reports_it_and_other_coroutines_go_on(host_client: HostClient) -> None:
    host = await host_client.host(COROUTINE)
    one, other = host_client.start(host, "waiting"), host_client.start(host, "waiting", gate="other")
    await host_client.first_detail(one)
    host.stop(one)
    assert isinstance(await host_client.outcome(one), Stopped)
    assert host_client.details(one)[-1] == "asked True"
    await host_client.run(host, "opening", gate="other")
    assert isinstance(await host_client.outcome(other), Succeeded)


async def test_a_coroutine_that_swallows_its_stop_runs_on_and_a_second_stop_does_nothing(
    host_client: HostClient,
) -> None:
    host = await host_client.host(COROUTINE)
    run_id = host_client.start(host, "waiting", gate="stubborn", stubborn=True)
    await host_client.first_detail(run_id)
    host.stop(run_id)
    await host_client.until(lambda: len(host_client.messages[run_id]) > 1)
    host.stop(run_id)
    await host_client.run(host, "opening", gate="stubborn")
    assert isinstance(await host_client.outcome(run_id), Succeeded)
    assert host_client.details(run_id) == ["begun", "asked True"]


@pytest.mark.parametrize("kind", HostKind)
async def test_a_stop_that_comes_before_the_handler_has_begun_counts(host_client: HostClient, kind: HostKind) -> None:
    host = await host_client.host(kind)
    for _ in range(50):
        run_id = host_client.start(host, "waiting" if kind is COROUTINE else "sleeping")
        host.stop(run_id)
        assert isinstance(await host_client.outcome(run_id), Stopped)


async def test_a_stopped_function_reports_it_and_its_host_goes_on(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "sleeping")
    await host_client.first_detail(run_id)
    host.stop(run_id)
    assert isinstance(await host_client.outcome(run_id), Stopped)
    assert isinstance(await host_client.run(host, "echoFunction", text="next"), Succeeded)
    assert not host.death.done()


async def test_a_function_that_swallows_its_stop_wins(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "sleeping", stubborn=True)
    await host_client.first_detail(run_id)
    host.stop(run_id)
    assert isinstance(await host_client.outcome(run_id), Succeeded)


async def test_a_stop_hits_no_other_attempt_than_its_own(host_client: HostClient) -> None:
    """Each stop races with the end of its function and the beginning of the next."""
    host = await host_client.host(FUNCTION)
    for number in range(300):
        ended, follower = (
            host_client.start(host, "echoFunction"),
            host_client.start(host, "echoFunction", text=str(number)),
        )
        await host_client.first_detail(ended)
        host.stop(ended)
        assert (await host_client.outcome(follower)).members == {"echo": str(number)}
        assert isinstance(await host_client.outcome(ended), Succeeded | Stopped)


async def test_a_function_that_reports_without_end_can_be_stopped(host_client: HostClient) -> None:
    """Its line is full: a stop must not cut a message in two."""
    host = await host_client.host(FUNCTION)
    for _ in range(20):
        run_id = host_client.start(host, "chatty")
        await host_client.first_detail(run_id)
        host.stop(run_id)
        assert isinstance(await host_client.outcome(run_id), Stopped)


async def test_a_process_that_a_function_starts_can_be_interrupted(host_client: HostClient) -> None:
    host = await host_client.host(FUNCTION)
    run_id = host_client.start(host, "interrupting")
    assert isinstance(await host_client.outcome(run_id), Succeeded)
    assert host_client.details(run_id) == ["ended True"]


@pytest.mark.parametrize("kind", HostKind)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_to_every_process_is_the_managers_business(
    host_client: HostClient, kind: HostKind, signum: int
) -> None:
    """systemd and terminals send it to all; the manager decides, its hosts and fork_server work on."""
    host = await host_client.host(kind)
    name = "echo" if kind is COROUTINE else "echoFunction"
    await host_client.run(host, name)
    os.kill(host_client.fork_server.pid, signum)
    os.kill(host.pid, signum)
    assert isinstance(await host_client.run(host, name), Succeeded)
    assert isinstance(await host_client.run(await host_client.host(kind), name), Succeeded)
