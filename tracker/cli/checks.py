"""The checks of `tracker doctor`: facts about the server and the installation, and a finding for each."""

import time
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from tracker.cli.output import CommandFailed, Exit
from tracker.cli.overview import Overview, look, tell
from tracker.config import Settings
from tracker.domain.operation import SECOND
from tracker.errors import Unavailable
from tracker.store.address_check import explain, why_unusable
from tracker.store.connection import open_redis
from tracker.store.permissions import is_refusal
from tracker.store.server_check import Finding, Level, ServerFacts, judge, read_server
from tracker.store.store import Store

MOST_DRIFT = 1.0
"""The largest difference between the server's clock and this machine's that is no warning, in seconds."""
PATIENCE = 15
"""Seconds after which an operation that the sweeper should have repaired counts as lost."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts read from the server.

    * `drift`: the server's clock minus this machine's, in seconds.
    * `leases`, `due`, `suspects`: how many operations are overdue by more than PATIENCE.
    * `workers`: how many workers are alive. The tracker's workers report it. RQ's own are registered with RQ.
    * `any_host`: whether the API answers for any host. The settings of this command say it, not those of the API.
    """

    server: ServerFacts
    drift: float
    sweeping: bool
    leases: int
    due: int
    suspects: int
    workers: int
    overview: Overview = field(default_factory=Overview)
    any_host: bool = False


async def gather(settings: Settings) -> Facts:
    """Read the facts. Raises CommandFailed (UNREACHABLE) when the server does not answer."""
    redis = open_redis(settings)
    store = Store(redis, settings)
    keys = store.keys
    try:
        server = await read_server(redis)
        asked = time.time()
        server_seconds, server_micros = await redis.time()
        drift = server_seconds + server_micros / SECOND - (asked + time.time()) / 2
        late = (server_seconds - PATIENCE) * SECOND
        async with redis.pipeline(transaction=False) as pipe:
            pipe.exists(keys.sweeper)
            for overdue in (keys.leases, keys.due, keys.suspects):
                pipe.zcount(overdue, "-inf", late)
            pipe.smembers(f"{keys.rq_prefix}:workers")
            sweeping, leases, due, suspects, registered = await pipe.execute()
        overview = await look(store, server_seconds * SECOND + server_micros)
        ours = {f"{keys.rq_prefix}:worker:{name}" for name in (*overview.workers, *overview.died)}
        stock = {str(name) for name in registered} - ours
        workers = len(overview.workers) + (await redis.exists(*stock) if stock else 0)
    except (RedisError, Unavailable) as error:
        raise CommandFailed(Exit.UNREACHABLE, why_unreachable(error)) from None
    finally:
        await redis.aclose()
    return Facts(server, drift, bool(sweeping), leases, due, suspects, workers, overview, answers_any_host(settings))


def answers_any_host(settings: Settings) -> bool:
    """Whether the API answers for any host with these settings."""
    return settings.auth == "tokens" and not settings.public_url and not settings.allowed_hosts


def why_unreachable(error: RedisError | Unavailable) -> str:
    """Why the server did not do what it was asked, as one sentence."""
    cause = error.__cause__ or error
    if is_refusal(cause):
        return f"Redis refuses a command to the user of REDIS_URL: {cause}"
    return unreachable(explain(cause))


def unreachable(reason: str) -> str:
    """The sentence of a command that cannot reach Redis."""
    return f"Redis cannot be used at REDIS_URL: {reason}"


def check_address(settings: Settings) -> None:
    """Check that a server answers at REDIS_URL. Raises CommandFailed (UNREACHABLE) within three seconds if not."""
    if reason := why_unusable(settings):
        raise CommandFailed(Exit.UNREACHABLE, unreachable(reason))


def examine(facts: Facts) -> list[Finding]:
    """Make a finding for each fact, those about the server first."""
    return [
        *judge(facts.server),
        _clock(facts.drift),
        _sweeper(facts.sweeping),
        _workers(facts.workers),
        _hosts(facts.any_host),
        _lost("leases", facts.leases, "their worker was lost and nobody gave them to another"),
        _lost("due", facts.due, "their next attempt is due and nobody queued it"),
        _lost("tickets", facts.suspects, "their tickets left the queue and nobody queued them again"),
        *tell(facts.overview),
    ]


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


def _hosts(any_host: bool) -> Finding:
    if not any_host:
        return Finding("hosts", Level.OK, "checked")
    advice = "Links name any host that a request names. Set TRACKER_PUBLIC_URL or TRACKER_ALLOWED_HOSTS."
    return Finding("hosts", Level.WARN, "any", advice)


def _lost(what: str, count: int, meaning: str) -> Finding:
    check = f"lost: {what}"
    if not count:
        return Finding(check, Level.OK, "none")
    advice = f"For over {PATIENCE} s: {meaning}. Run `tracker serve` or `tracker worker` and see their logs."
    return Finding(check, Level.FAIL, f"{count} operations", advice)
