"""The API benchmark: its tables follow from its measurements, and its client counts responses."""

import asyncio
import os
import time
from functools import partial

import pytest

from benchmarks.api_bare import Row
from benchmarks.api_figures import BESIDE_BARE, ENDS, beside_bare, ends, ratios
from benchmarks.api_load import Burst, Channel, Refused, drive
from benchmarks.api_profile import profile_of, shown
from benchmarks.api_writes import Writes
from benchmarks.processes import cpu_time


def burst(rate: int, **cpu: float) -> Burst:
    return Burst([0.010] * rate, 1.0, {"server": 0.5, "valkey": 0.1, "load": 0.2, **cpu})


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(data)


def connected() -> tuple[Channel, Wire]:
    channel, wire = Channel(), Wire()
    channel.connection_made(wire)
    return channel, wire


WHOLE = b'HTTP/1.1 200 OK\r\nETag: W/"7"\r\nContent-Length: 14\r\n\r\n{"id":"value"}'


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
async def test_an_answer_is_whole_wherever_the_network_cuts_it(cut: int) -> None:
    channel, wire = connected()
    for _ in range(2):
        answer = channel.ask(b"GET", 200)
        channel.data_received(WHOLE[:cut])
        assert not answer.done()
        channel.data_received(WHOLE[cut:])
        assert (await answer).body == b'{"id":"value"}'
        assert (await answer).header(b"etag") == b'W/"7"'
    assert wire.written == [b"GET", b"GET"]


async def test_an_answer_without_a_body_ends_with_its_headers() -> None:
    channel, _ = connected()
    answer = channel.ask(b"GET", 304)
    channel.data_received(b'HTTP/1.1 304 Not Modified\r\nETag: W/"7"\r\n\r\n')
    assert (await answer).body == b""


async def test_another_status_than_the_expected_one_is_refused_with_what_the_server_said() -> None:
    channel, _ = connected()
    answer = channel.ask(b"GET", 200)
    channel.data_received(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
    with pytest.raises(Refused, match="404 none"):
        await answer


async def test_a_server_that_hangs_up_is_not_waited_for() -> None:
    channel, _ = connected()
    answer = channel.ask(b"GET", 200)
    channel.connection_lost(None)
    with pytest.raises(Refused, match="closed"):
        await answer


async def test_a_step_that_fails_ends_the_load() -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        await drive([step], seconds=60, watched={})


async def test_only_what_is_done_after_the_warm_up_counts() -> None:
    done = 0

    async def step() -> None:
        nonlocal done
        done += 1
        await asyncio.sleep(0.01)

    burst = await drive([step, step], seconds=0.1, watched={}, warm_up=0.1, operations=20)
    assert 0 < len(burst.times) < done
    assert burst.rate == pytest.approx(len(burst.times) * 20 / burst.seconds)


def test_a_row_is_compared_with_its_counterpart_round_by_round() -> None:
    rates, costs = ratios([burst(50), burst(80), burst(10)], [burst(100), burst(100), burst(40)])
    assert rates == pytest.approx([0.5, 0.8, 0.25])
    assert costs == pytest.approx([0.5, 0.8, 0.25]), "all took the same processor time"


def test_the_ratio_by_processor_time_does_not_mind_who_else_uses_the_core() -> None:
    rates, costs = ratios([burst(20, server=0.1)], [burst(100, server=0.4)])
    assert rates == pytest.approx([0.2])
    assert costs == pytest.approx([0.8])


def test_rows_that_do_many_things_are_compared_by_things() -> None:
    create = Row("create", "ours", [])
    batch = Row("$batch", "ours", [], beside="create", target=3.0, operations=20)
    many = Burst([0.01] * 10, 1.0, {"server": 0.5, "valkey": 0.1, "load": 0.2}, operations=20)
    heading, _, row = beside_bare([create, batch], {"create": [burst(50)], "$batch": [many]})
    assert [heading.find(column) for column in BESIDE_BARE[:5]] == sorted(heading.find(c) for c in BESIDE_BARE[:5])
    words = row.split()
    assert words == [
        "$batch",
        "200",
        "200-200",
        "create",
        "4.00",
        "4.00-4.00",
        "4.00",
        "3.0",
        "2,500",
        "500",
        "1,000",
        "50%",
        "30%",
    ]


def test_end_to_end_is_compared_with_the_fastest_and_the_cheapest_peer() -> None:
    cpu = {"api": 0.2, "worker": 0.1, "valkey": 0.05}
    table = {
        ("tracker", "waits"): [burst(200, **cpu)],
        ("slow", "looks 5 ms"): [burst(20, **cpu)],
        ("fast", "looks 0 ms"): [burst(100, **{**cpu, "api": 0.7})],
    }
    heading, ours, *_ = ends(table, "tracker")
    assert all(column in heading for column in ENDS)
    assert ours.split()[:4] == ["tracker", "waits", "200", "200-200"]
    assert ours.split()[4] == "2.00"
    assert ours.split()[8] == "3.82", "10,500 us of `fast` and 2,750 of ours"


def test_writes_are_alike_when_they_are_the_same_commands_of_about_the_same_size() -> None:
    one = Writes(["HSET", "ZADD"], 1000)
    assert one.alike(Writes(["ZADD", "HSET"], 1010))
    assert not one.alike(Writes(["ZADD", "HSET"], 1100))
    assert not one.alike(Writes(["HSET"], 1000))


def test_a_profile_counts_functions_whatever_their_line() -> None:
    stacks = [
        "run (a/b/loop.py:1);read (x/api/read.py:10) 3",
        "run (a/b/loop.py:1);read (x/api/read.py:12) 1",
        "run (a/b/loop.py:9) 4",
    ]
    profile = profile_of(stacks)
    assert profile.looks == 8
    assert profile.own == {"read (api/read.py)": 4, "run (b/loop.py)": 4}
    assert profile.within == {"read (api/read.py)": 4, "run (b/loop.py)": 8}


def test_a_profile_leaves_out_what_everything_runs_in() -> None:
    lines = list(shown(profile_of(["main (a.py:1);read (b.py:2) 3", "main (a.py:1);write (c.py:2) 1"]), 100.0))
    assert [line.split() for line in lines if "(" in line] == [
        *(["75.0", "us", "75.0%", "read", "(b.py)"], ["25.0", "us", "25.0%", "write", "(c.py)"]),
        *(["75.0", "us", "75.0%", "read", "(b.py)"], ["25.0", "us", "25.0%", "write", "(c.py)"]),
    ]


async def test_a_load_lasts_until_something_is_answered() -> None:
    burst = await drive([partial(asyncio.sleep, 0.2)], seconds=0.01, watched={}, warm_up=0.0)
    assert len(burst.times) == 1


def test_processor_time_is_that_of_the_process_and_its_descendants() -> None:
    before = time.process_time(), cpu_time(os.getpid())
    while time.process_time() < before[0] + 0.05:
        pass
    assert cpu_time(os.getpid()) - before[1] == pytest.approx(0.05, abs=0.02)
