"""What a request makes scripts write, as MONITOR shows it: the bare create must write what ours does."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from redis.asyncio import Redis

from tracker.store.keys import Keys

READS = {
    *("EXISTS", "GET", "HGET", "HGETALL", "HMGET", "LINDEX", "LLEN", "PTTL", "TIME", "TTL"),
    *("XLEN", "ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"),
}
"""Commands of scripts that write nothing."""
LOCK = Keys().sweeper
"""What the sweeper's lock renews by a script."""
END = "bench-end"


class Writes(NamedTuple):
    """The names of the commands, in order, and the bytes of all their words."""

    commands: list[str]
    size: int

    def __str__(self) -> str:
        """How many, and of what size."""
        return f"{len(self.commands)} writes, {self.size:,} bytes"

    def alike(self, other: "Writes") -> bool:
        """Whether both are the same commands, within a fiftieth of the size."""
        return sorted(self.commands) == sorted(other.commands) and abs(self.size - other.size) <= self.size / 50


async def writes(url: str, act: Callable[[], Awaitable[object]]) -> Writes:
    """Watch what scripts write while `act` is done. Nothing else may go on but the sweeper, with nothing to do."""
    commands: list[str] = []
    size = 0
    async with Redis.from_url(url, decode_responses=True) as redis, redis.monitor() as monitor:
        await act()
        await redis.echo(END)
        async for seen in monitor.listen():
            name, _, words = seen["command"].partition(" ")
            if name == "ECHO" and words == END:
                return Writes(commands, size)
            if seen["client_type"] == "lua" and name.upper() not in READS and not words.startswith(LOCK):
                commands.append(name.upper())
                size += len(words)
    raise AssertionError("MONITOR ended")
