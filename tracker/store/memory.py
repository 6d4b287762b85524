"""The memory of the Redis server: how much it uses, and how much its setting `maxmemory` allows."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from tracker.store.scripts import answering
from tracker.store.server_errors import StoreFull

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from tracker.store.store import Store

NEARLY_FULL = 0.9
"""The part of the memory from which a check warns."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the server in bytes. With a `limit` of 0 the server takes what the machine has."""

    used: int
    limit: int

    @property
    def part(self) -> float:
        """The part of the limit that is used: 0.9 is 90 per cent. Without a limit it is 0."""
        return self.used / self.limit if self.limit else 0.0

    @property
    def nearly_full(self) -> bool:
        """Whether a check warns."""
        return self.part >= NEARLY_FULL

    def __str__(self) -> str:
        """The figures as a text: "1.9 of 2.0 MiB (95 %)"."""
        used, limit = self.used / 2**20, self.limit / 2**20
        return f"{used:,.1f} of {limit:,.1f} MiB ({self.part:.0%})" if self.limit else f"{used:,.1f} MiB, no limit"


def memory_of(info: "Mapping[str, Any]") -> Memory | None:
    """The memory as INFO reports it; None if the server does not say.

    The server does not count some of its buffers against the limit (`mem_not_counted_for_evict`).
    """
    used, limit = info.get("used_memory"), info.get("maxmemory")
    if used is None or limit is None:
        return None
    return Memory(max(0, int(used) - int(info.get("mem_not_counted_for_evict", 0))), int(limit))


async def read_memory(redis: "Redis") -> Memory | None:
    """Read the memory from the server. Returns None if the server refuses to report it.

    Raises Unavailable while Redis is away.
    """
    async with answering():
        with suppress(ResponseError):
            return memory_of(await redis.info("memory"))
        return None


async def check_ready(store: "Store") -> Memory | None:
    """Check that Redis answers, has every script and accepts writes. Returns its memory, if the server tells it.

    Raises Unavailable while it does not. The error of a full server has the figures.
    """
    memory = await read_memory(store.redis)
    try:
        await store.ready()
    except StoreFull as error:
        raise StoreFull(f"{error.message} It uses {memory}." if memory else error.message) from error
    return memory
