"""Everything at once, in random order: attempts that end well or not at all, stops, deadlines, killed hosts."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.dev_stack import descendants
from tests.support.executors import registry, running_executor, running_record
from tests.support.handler_files import let_go
from tests.support.scheduling import chance
from tests.support.waiting import eventually, soon
from tracker.domain.record import Apart, Record
from workers.attempt import StopReason
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.outcome import Died, Stopped, Succeeded
from workers.pool import PoolSize

ROUNDS = 300
COROUTINES, FUNCTIONS, APART = 20, 3, 2
COROUTINE_TYPES = ("waits", "waits", "insists", "clings", "blocks")
FUNCTION_TYPES = ("works", "works", "works", "works", "deaf")
TYPES = (*COROUTINE_TYPES, *FUNCTION_TYPES)


def begin(executor: Executor, directory: Path, kind: str, chances: Random, *, apart: bool = False) -> Record:
    record = running_record(kind, run_within=chances.choice([0.2, 1.0, 5.0]), grace=chances.choice([0.1, 0.3]))
    record = record._replace(members={"seconds": chances.choice([0.001, 0.3])})
    if apart:
        record = record._replace(apart=Apart.PROCESS)
    if chances.random() < 0.8:
        let_go(directory, record)
    executor.begin(record)
    return record


def disturb(executor: Executor, fork_server: ForkServer, chances: Random) -> set[str]:
    """Stop an attempt, kill a host. Returns the ids of those that are not this worker's any more."""
    fenced = set()
    if executor.running and chances.random() < 0.5:
        key, why = chances.choice(list(executor.running)), chances.choice(list(StopReason))
        if why is StopReason.FENCED and executor.running[key].stop_reason is None:
            fenced.add(executor.running[key].record.id)
        executor.stop(*key, why)
    hosts = descendants(fork_server.pid)
    if hosts and chances.random() < 0.1:
        with suppress(ProcessLookupError):
            os.kill(chances.choice(hosts), chances.choice([signal.SIGKILL, signal.SIGUSR2, signal.SIGTERM]))
    return fenced


async def test_each_attempt_ends_once_and_frees_its_capacity_whatever_happens(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    chances = chance()
    begun: list[Record] = []
    fenced: set[str] = set()
    types = registry(*COROUTINE_TYPES, *FUNCTION_TYPES)
    async with running_executor(fork_server, types, PoolSize(COROUTINES, FUNCTIONS, 5, apart=APART)) as (
        executor,
        completions,
    ):
        for _ in range(ROUNDS):
            coroutines, functions, apart = executor.pool.room()
            kinds = [chances.choice(COROUTINE_TYPES) for _ in range(coroutines)]
            kinds += [chances.choice(FUNCTION_TYPES) for _ in range(functions)]
            begun += [begin(executor, tmp_path, kind, chances) for kind in kinds]
            begun += [begin(executor, tmp_path, chances.choice(TYPES), chances, apart=True) for _ in range(apart)]
            fenced |= disturb(executor, fork_server, chances)
            await asyncio.sleep(chances.random() * 0.02)
        let_go(tmp_path)
        await soon(executor.idle.wait())

        async def as_at_first() -> bool:
            coroutines, functions, apart = executor.pool.room()
            hosts = len(descendants(fork_server.pid))
            whole = coroutines == COROUTINES and functions >= FUNCTIONS and apart == APART
            return whole and hosts == 1 + FUNCTIONS

        await eventually(as_at_first)
    assert {record.id for record in begun} - completions.keys() == fenced
    ended = Counter(type(completion.outcome) for completion in completions.values())
    print(dict(ended))
    assert {Succeeded, Stopped, Died} <= ended.keys()
