"""A few seconds of everything at once: attempts that end well or not at all, stops, deadlines, killed hosts."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.dev import descendants
from tests.engines import catalogue, let_go, running_engine, running_record
from tests.scheduling import chance
from tests.waiting import eventually
from tracker.domain.operation import Record
from workers.attempt import Stop
from workers.executor import Engine
from workers.fork_server import Nursery
from workers.pool import Size

SECONDS = 5.0
COROUTINES, FUNCTIONS = 20, 3
COROUTINE_TYPES = ("waits", "waits", "insists", "clings", "blocks")
FUNCTION_TYPES = ("works", "works", "works", "works", "deaf")
TYPES = (*COROUTINE_TYPES, *FUNCTION_TYPES)


def begin(engine: Engine, directory: Path, kind: str, chances: Random) -> Record:
    record = running_record(kind, run_within=chances.choice([0.2, 1.0, 5.0]), grace=chances.choice([0.1, 0.3]))
    record = record._replace(members={"seconds": chances.choice([0.001, 0.3])})
    if chances.random() < 0.8:
        let_go(directory, record)
    engine.begin(record)
    return record


def disturb(engine: Engine, nursery: Nursery, chances: Random) -> set[str]:
    """Stop an attempt, kill a host. Returns the ids of those that are not this worker's any more."""
    fenced = set()
    if engine.running and chances.random() < 0.5:
        key, why = chances.choice(list(engine.running)), chances.choice(list(Stop))
        if why is Stop.FENCED and engine.running[key].stop is None:
            fenced.add(engine.running[key].record.id)
        engine.stop(*key, why)
    hosts = descendants(nursery.pid)
    if hosts and chances.random() < 0.1:
        with suppress(ProcessLookupError):
            os.kill(chances.choice(hosts), chances.choice([signal.SIGKILL, signal.SIGHUP, signal.SIGTERM]))
    return fenced


async def test_whatever_happens_each_attempt_ends_once_and_its_room_comes_back(
    nursery: Nursery, tmp_path: Path
) -> None:
    chances = chance()
    begun: list[Record] = []
    fenced: set[str] = set()
    types = catalogue(*COROUTINE_TYPES, *FUNCTION_TYPES)
    async with running_engine(nursery, types, Size(COROUTINES, FUNCTIONS, recycle_after=5)) as (engine, endings):
        until = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < until:
            coroutines, functions = engine.pool.room()
            kinds = [chances.choice(COROUTINE_TYPES) for _ in range(coroutines)]
            kinds += [chances.choice(FUNCTION_TYPES) for _ in range(functions)]
            begun += [begin(engine, tmp_path, kind, chances) for kind in kinds]
            fenced |= disturb(engine, nursery, chances)
            await asyncio.sleep(chances.random() * 0.02)
        let_go(tmp_path)
        await asyncio.wait_for(engine.idle.wait(), 20)

        async def as_at_first() -> bool:
            coroutines, functions = engine.pool.room()
            hosts = len(descendants(nursery.pid))
            return coroutines == COROUTINES and functions >= FUNCTIONS and hosts == 1 + FUNCTIONS

        await eventually(as_at_first)
    assert {record.id for record in begun} - endings.keys() == fenced
    ended = Counter(ending.outcome["outcome"] for ending in endings.values())
    print(dict(ended))
    assert {"succeeded", "stopped", "died"} <= ended.keys()
