"""A master of a cluster of one shard: after a failover, its clients follow to the node that has taken over."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.records import make_record
from tests.support.waiting import LONGEST_WAIT, eventually
from tracker.config import Settings
from tracker.errors import Unavailable
from tracker.runtime.dev_valkey import find_server
from tracker.runtime.processes import die_with_parent
from tracker.store.connection import open_redis
from tracker.store.store import Store


def start_node(directory: Path, port: int, bus: int) -> subprocess.Popen[bytes]:
    directory.mkdir()
    words = {"port": port, "cluster-port": bus, "cluster-enabled": "yes", "dir": directory, "save": "''"}
    times = {"cluster-node-timeout": 2000, "repl-diskless-sync-delay": 0}
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            (
                find_server(),
                *(word for name, value in {**words, **times}.items() for word in (f"--{name}", str(value))),
            ),
            stdout=log,
            stderr=log,
            preexec_fn=partial(die_with_parent, parent=os.getpid()),  # noqa: PLW1509 - one prctl call, no locks
        )


async def says(node: Redis, *words: Any) -> str:
    return str(await node.execute_command("CLUSTER", *words))  # type: ignore[no-untyped-call]


@pytest.fixture
async def nodes(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[list[tuple[int, Redis]]]:
    """A master and its replica, in this order: the port and a client of each."""
    ports = [unused_tcp_port_factory() for _ in range(4)]
    processes = [start_node(tmp_path / f"node-{at}", ports[at], ports[at + 2]) for at in range(2)]
    clients = [Redis(port=port, decode_responses=True) for port in ports[:2]]
    try:

        async def answer() -> bool:
            try:
                return all([await client.ping() for client in clients])
            except OSError:
                return False

        await eventually(answer)
        master, replica = clients
        await says(master, "ADDSLOTSRANGE", 0, 16383)
        await says(replica, "MEET", "127.0.0.1", ports[0], ports[2])
        name = await says(master, "MYID")
        await eventually(lambda: has(replica, "NODES", name))
        await eventually(lambda: has(replica, "INFO", "cluster_state:ok"))
        await says(replica, "REPLICATE", name)
        await eventually(lambda: is_in_step(replica))
        yield list(zip(ports, clients, strict=False))
    finally:
        for client in clients:
            await client.aclose()
        for process in processes:
            process.kill()
            await asyncio.to_thread(process.wait, LONGEST_WAIT)


async def has(node: Redis, word: str, text: str) -> bool:
    return text in await says(node, word)


async def is_in_step(replica: Redis) -> bool:
    info = await replica.info("replication")
    return info["role"] == "slave" and info.get("master_link_status") == "up"


async def is_master(node: Redis) -> bool:
    return bool((await node.info("replication"))["role"] == "master")


async def test_clients_follow_the_failovers_of_a_cluster(settings: Settings, nodes: list[tuple[int, Redis]]) -> None:
    (port, first), (_, second) = nodes
    mine = settings.model_copy(
        update={"redis_url": f"redis://127.0.0.1:{port}/0", "hash_tag": "t", "rq_key_prefix": "{t}rq"}
    )
    async with open_redis(mine) as redis:
        store = Store(redis, mine)

        async def creates() -> bool:
            try:
                await store.create(make_record())
            except Unavailable:
                return False
            return True

        assert await creates()
        for new, old in ((second, first), (first, second)):
            await says(new, "FAILOVER")
            await eventually(partial(is_master, new))
            await eventually(partial(is_in_step, old))
            await eventually(creates)
