"""What `tracker doctor` looks at: the facts, and a judgement of each."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError, ResponseError

from tracker.cli.output import Exit, Stop
from tracker.config import Settings
from tracker.connection import open_redis
from tracker.keys import Keys
from tracker.model import SECOND

OLDEST_REDIS, OLDEST_VALKEY = (7, 0), (8, 0)
MOST_DRIFT = 1.0
"""Seconds between the server's clock and ours that are worth a word."""
PATIENCE = 15
"""Seconds after which something that the sweeper should have repaired counts as lost."""


class Level(StrEnum):
    """How a check came out; `fail` makes the command exit 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome: what was found, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as `--output json` has it."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen on the server. `fsync` is None where the server does not tell its configuration.

    `drift` is the server's clock less ours, in seconds; `leases`, `due` and `suspects` count what is overdue
    by more than PATIENCE; `workers` counts RQ workers whose registration is alive.
    """

    info: Mapping[str, Any]
    fsync: str | None
    drift: float
    sweeping: bool
    leases: int
    due: int
    suspects: int
    workers: int


async def gather(settings: Settings) -> Facts:
    """Read the facts. Writes nothing. Raises Stop (UNREACHABLE) when the server does not answer."""
    keys = Keys(settings.key_prefix, settings.rq_key_prefix)
    redis = open_redis(settings)
    try:
        fsync = None
        with suppress(ResponseError):  # managed servers refuse CONFIG
            fsync = (await redis.config_get("appendfsync")).get("appendfsync")
        asked = time.time()
        server_seconds, server_micros = await redis.time()
        drift = server_seconds + server_micros / SECOND - (asked + time.time()) / 2
        late = (server_seconds - PATIENCE) * SECOND
        async with redis.pipeline(transaction=False) as pipe:
            pipe.info()
            pipe.exists(keys.sweeper)
            for overdue in (keys.leases, keys.due, keys.suspects):
                pipe.zcount(overdue, "-inf", late)
            pipe.smembers(f"{keys.rq_prefix}:workers")
            info, sweeping, leases, due, suspects, registered = await pipe.execute()
        workers = await redis.exists(*registered) if registered else 0
    except RedisError as error:
        raise Stop(Exit.UNREACHABLE, f"Redis cannot be reached: {error}") from None
    finally:
        await redis.aclose()
    return Facts(info, fsync, drift, bool(sweeping), leases, due, suspects, workers)


def examine(facts: Facts) -> list[Finding]:
    """Judge the facts, the server's fitness first."""
    return [
        _version(facts.info),
        _persistence(facts.info),
        _promise(facts.fsync),
        _eviction(facts.info),
        _clock(facts.drift),
        _sweeper(facts.sweeping),
        _workers(facts.workers),
        _lost("leases", facts.leases, "their worker was lost and nobody gave them to another"),
        _lost("due", facts.due, "their next attempt is due and nobody queued it"),
        _lost("tickets", facts.suspects, "their tickets left the queue and nobody queued them again"),
    ]


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
        return Finding("appendonly", Level.FAIL, "off", "Set `appendonly yes`: operations die with the server.")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding("appendonly", Level.FAIL, "the last write failed", "See the server's log and its disk.")
    return Finding("appendonly", Level.OK, "on")


def _promise(fsync: str | None) -> Finding:
    advice = {
        "always": "",
        "everysec": "Up to 2 s of acknowledged writes may be lost with the server; `always` loses none.",
        "no": "Set `appendfsync always` (or `everysec`): the system decides when writes reach the disk.",
        None: "The server does not tell; unless it is `always`, acknowledged writes may be lost with it.",
    }
    level = {"always": Level.OK, "no": Level.FAIL}.get(fsync or "", Level.WARN)
    return Finding("appendfsync", level, fsync or "unknown", advice.get(fsync, ""))


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return Finding("maxmemory-policy", Level.OK, policy)
    advice = "Set `maxmemory-policy noeviction`: a full server would drop operations silently."
    return Finding("maxmemory-policy", Level.FAIL, policy, advice)


def _clock(drift: float) -> Finding:
    if abs(drift) <= MOST_DRIFT:
        return Finding("clock", Level.OK, f"{drift:+.3f} s")
    advice = "The server's clock differs from this machine's; stored times are the server's. Use NTP on both."
    return Finding("clock", Level.WARN, f"{drift:+.3f} s", advice)


def _sweeper(sweeping: bool) -> Finding:
    if sweeping:
        return Finding("sweeper", Level.OK, "at work")
    return Finding("sweeper", Level.WARN, "none", "Nothing repairs: run `tracker serve` or `tracker worker`.")


def _workers(workers: int) -> Finding:
    if workers:
        return Finding("workers", Level.OK, f"{workers} alive")
    return Finding("workers", Level.WARN, "none", "Operations wait: run `tracker worker`.")


def _lost(what: str, count: int, meaning: str) -> Finding:
    check = f"lost: {what}"
    if not count:
        return Finding(check, Level.OK, "none")
    advice = f"For over {PATIENCE} s: {meaning}. Run `tracker serve` or `tracker worker` and see their logs."
    return Finding(check, Level.FAIL, f"{count} operations", advice)
