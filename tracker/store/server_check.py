"""Checks of the Redis server: its version, its append-only file and how it is synced, its eviction policy, its memory.

They are logged at the start of every process, and `tracker doctor` shows them.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import NoPermissionError, ResponseError

from tracker.errors import Unavailable
from tracker.store.memory import Memory, memory_of
from tracker.store.scripts import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

OLDEST_REDIS, OLDEST_VALKEY = (7, 0), (8, 0)
ASK_AGAIN_AFTER = 1.0
"""Seconds before a server that did not answer is asked again."""


class Level(StrEnum):
    """The result of a check. With `fail`, `tracker doctor` exits with 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, and advice what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as `--output json` prints it."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server's reply to INFO, and its setting `appendfsync`; None if the server refuses to report it."""

    info: Mapping[str, Any] | None
    fsync: str | None


async def read_server(redis: "Redis") -> ServerFacts:
    """Read the facts from the server."""
    fsync = info = None
    with suppress(ResponseError):  # managed servers refuse CONFIG
        fsync = (await redis.config_get("appendfsync")).get("appendfsync")
    with suppress(NoPermissionError):
        info = await redis.info()
    return ServerFacts(info, fsync)


def judge(server: ServerFacts) -> list[Finding]:
    """Check the facts."""
    if server.info is None:
        return [_unknown(), _sync(server.fsync)]
    info = server.info
    return [_version(info), _persistence(info), _sync(server.fsync), _eviction(info), _memory(memory_of(info))]


async def report(redis: "Redis") -> None:
    """Log once, as soon as the server answers, every check that is not `ok`."""
    while True:
        try:
            async with answering():
                findings = judge(await read_server(redis))
        except Unavailable:
            await asyncio.sleep(ASK_AGAIN_AFTER)
            continue
        for finding in findings:
            if finding.level is not Level.OK:
                write = log.error if finding.level is Level.FAIL else log.warning
                write("server_unfit", check=finding.check, found=finding.found, advice=finding.advice)
        return


def _unknown() -> Finding:
    advice = (
        "The server refuses INFO to the user of REDIS_URL. Allow it, or see to it yourself: Redis 7.0 or Valkey 8 or"
        " later, `appendonly yes`, `maxmemory-policy noeviction`."
    )
    return Finding("server", Level.WARN, "unknown", advice)


def _version(info: Mapping[str, Any]) -> Finding:
    valkey = info.get("server_name") == "valkey"
    name, field, oldest = (
        ("Valkey", "valkey_version", OLDEST_VALKEY) if valkey else ("Redis", "redis_version", OLDEST_REDIS)
    )
    found = str(info.get(field, "unknown"))
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if numbers >= oldest:
        return Finding("version", Level.OK, f"{name} {found}")
    return Finding("version", Level.FAIL, f"{name} {found}", "Redis 7.0 or later, or Valkey 8 or later, is needed.")


def _persistence(info: Mapping[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        return Finding(
            "appendonly", Level.FAIL, "off", "Set `appendonly yes`: operations are lost when the server stops."
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("appendonly", Level.FAIL, "the last write failed", "See the server's log and its disk.")
    return Finding("appendonly", Level.OK, "on")


def _sync(fsync: str | None) -> Finding:
    advice = {
        "always": "",
        "everysec": "Up to 2 s of acknowledged writes may be lost when the server dies; `always` loses none.",
        "no": "Set `appendfsync always` (or `everysec`): the system decides when writes reach the disk.",
        None: "The server does not report it. Unless it is `always`, acknowledged writes may be lost when it dies.",
    }
    level = {"always": Level.OK, "no": Level.FAIL}.get(fsync or "", Level.WARN)
    return Finding("appendfsync", level, fsync or "unknown", advice.get(fsync, ""))


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return Finding("maxmemory-policy", Level.OK, policy)
    advice = "Set `maxmemory-policy noeviction`: a full server would drop operations silently."
    return Finding("maxmemory-policy", Level.FAIL, policy, advice)


def _memory(memory: Memory | None) -> Finding:
    if memory is None:
        return Finding("memory", Level.OK, "unknown")
    if not memory.nearly_full:
        return Finding("memory", Level.OK, str(memory))
    advice = "Raise `maxmemory`, or keep ended operations for a shorter time: a full server takes no new operations."
    return Finding("memory", Level.WARN if memory.part < 1 else Level.FAIL, str(memory), advice)
