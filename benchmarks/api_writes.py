"""Writes of Redis scripts during a request, read by MONITOR.

They show whether the script of the bare create writes the same as the script of the tracker's create.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from redis.asyncio import Redis

from tracker.store.keys import Keys

READS = {
    *("EXISTS", "GET", "HGET", "HGETALL", "HMGET", "LINDEX", "LLEN", "PTTL", "TIME", "TTL"),
    *("XLEN", "ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"),
}
"""Commands that write nothing."""
LOCK = Keys().sweeper
"""The key of the sweeper's lock. The sweeper renews the lock by a script at any time."""
END = "bench-end"
"""The argument of the ECHO that marks the end in the output of MONITOR."""


class Writes(NamedTuple):
    """The names of the commands in order, and the bytes of all their arguments."""

    commands: list[str]
    size: int

    def __str__(self) -> str:
        """The number of writes and their size, for people."""
        return f"{len(self.commands)} writes, {self.size:,} bytes"

    def alike(self, other: "Writes") -> bool:
        """Whether both have the same commands, and sizes that differ by 2 % at most."""
        return sorted(self.commands) == sorted(other.commands) and abs(self.size - other.size) <= self.size / 50


async def writes(url: str, act: Callable[[], Awaitable[object]]) -> Writes:
    """Watch the writes of scripts while `act` runs. No other client may be active except an idle sweeper."""
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
