"""The constants of the Lua scripts: `C.name` in a script is the value here.

The name of a key that ends with `:` is a prefix, to which a script adds a digest or an internal key.
"""

from hashlib import sha1
from typing import Any

from tracker.domain.operation import SECOND
from tracker.domain.policy import Policy
from tracker.store.keys import QUEUES, Keys
from tracker.store.rq_tickets import ticket_fields

_POLICY = Policy()
_DAY = 86_400

LITTER_AGE = 600
"""Seconds after which the sweeper removes what RQ has of a lost ticket: twice as long as RQ keeps a failed job."""
LIMITER_RECHECK = 5
"""Seconds after which a limiter is looked at again, if no operation of its type has ended before."""
PROBE_AFTER = 30
"""Seconds after which one operation of a type that no worker had is queued again, to find a worker."""
REPORTED_WITHIN = 3
"""Seconds since its last announcement within which a worker counts as one of those that share the work. Announcements
come every two seconds. A worker that was killed must stop counting soon."""
LONE_WORKER_FOR = 10
"""Seconds after its last claim for which a worker is the one that takes no more operations, to run one alone."""
LONE_WORKER_TURN = 10
"""Seconds for which a worker runs operations alone one after another, if they are short."""
LONE_WORKER_REST = 60
"""The longest time after a turn in which its place stays free while other operations wait, in seconds."""
FOREIGN_JOB_EXPIRES = _DAY
"""Seconds for which a job that is no ticket stays in RQ's failed registry."""
HISTORY_LIMIT = 10
"""Ended attempts that the history of an operation keeps at most."""
FEED_LENGTH = 5000
"""Messages that a tenant's feed keeps at most, or a few more. A message has the events of one run of a script."""
EVENTS_PER_MESSAGE = 100
"""Events in one message at most."""
MESSAGE_BYTES = 8 * 1024
"""How many bytes of a message a feed keeps at most. The events of one run of a script may need several messages."""
FEED_FOR = _DAY
"""The longest time that a feed is kept after its last message, in seconds. The shortest time is half as long."""
LARGEST_PUBLISHED_RESULT = 1024
"""The largest `resultInfo`, and the largest result members, in bytes of JSON, that an event has in full."""
TENANT_KNOWN_FOR = 7 * _DAY
"""Seconds for which a tenant counts as known after it last had tickets, or was in the tokens of an API process."""
TENANTS_PER_SWEEP = 200
"""Tenants of a lane whose tickets one sweep looks at, at most. If there are more, it looks at some by chance."""
WINDOW = 200
"""Tickets at the head of a queue among which a claim looks for a kind of handler that it has room for."""
JUDGE_LIMIT = 3 * WINDOW
"""Tickets that one claim judges at most: a window of each lane, so that no lane uses up what the others need."""
FIRST_LANES = ("high", "default", "high", "default", "high", "low", "high", "default", "high", "default")
"""The lane whose tickets are claimed first, for each of ten operations in turn. So no lane waits for ever."""
_RELEASE_LIMIT = 100
"""Parked operations that a limiter admits in one script at most."""
_LIMITER_BATCH = 20
"""Limiters that one script looks at, at most."""
_READ_SIZE = 50
"""Tickets that a claim reads from a queue at a time, at most."""


def feed_length(feed_bytes: int) -> int:
    """How many messages a tenant's feed keeps, so that it has no more bytes than that."""
    return min(FEED_LENGTH, feed_bytes // MESSAGE_BYTES)


def script_constants(keys: Keys, *, test_clock: bool, feed_length: int = FEED_LENGTH) -> dict[str, Any]:
    """Every constant by its name in Lua."""
    return _key_names(keys) | {
        "test_clock": keys.clock if test_clock else False,
        "second": SECOND,
        "day": _DAY * SECOND,
        "retention": int(_POLICY.retention),
        "tombstone": int(_POLICY.tombstone),
        "run_within": int(_POLICY.run_within),
        "litter_age": LITTER_AGE * SECOND,
        "limiter_recheck": LIMITER_RECHECK * SECOND,
        "limiter_batch": _LIMITER_BATCH,
        "release_limit": _RELEASE_LIMIT,
        "probe_after": PROBE_AFTER * SECOND,
        "longest_lease": 10 * SECOND,
        "reported_within": REPORTED_WITHIN,
        "lone_worker_for": LONE_WORKER_FOR * SECOND,
        "lone_worker_turn": LONE_WORKER_TURN * SECOND,
        "lone_worker_rest": LONE_WORKER_REST * SECOND,
        "foreign_job_expires": FOREIGN_JOB_EXPIRES,
        "history_limit": HISTORY_LIMIT,
        "feed_length": feed_length,
        "feed_for": FEED_FOR,
        "events_per_message": EVENTS_PER_MESSAGE,
        "message_bytes": MESSAGE_BYTES,
        "largest_published_result": LARGEST_PUBLISHED_RESULT,
        "tenant_known_for": TENANT_KNOWN_FOR * SECOND,
        "tenants_per_sweep": TENANTS_PER_SWEEP,
        "window": WINDOW,
        "judge_limit": JUDGE_LIMIT,
        "read_size": _READ_SIZE,
        "first_lanes": [_stored(lane) for lane in FIRST_LANES],
        "lane_order": [_stored(lane) for lane in QUEUES],
        "lanes": {_stored(lane): _lane(keys, lane) for lane in QUEUES},
        "ticket_fields": ticket_fields(),
    }


def _key_names(keys: Keys) -> dict[str, str]:
    prefix, rq = keys.prefix, keys.rq_prefix
    return {
        "operation": keys.operation(""),
        "ids": f"{prefix}:ids:",
        "call": f"{prefix}:call:",
        "idempotency": f"{prefix}:once:",
        "serial_queue": f"{prefix}:line:",
        "limiter": f"{prefix}:gate:",
        "unserved": f"{prefix}:lack:",
        "apart_process": f"{prefix}:apart:process:",
        "apart_worker": f"{prefix}:apart:worker:",
        "history": keys.history(""),
        "control": keys.control(""),
        "feed": f"{prefix}:feed:",
        "last_claim": f"{prefix}:batch:",
        "ticket_template": keys.ticket(sha1(repr(ticket_fields()).encode(), usedforsecurity=False).hexdigest()),
        "job": keys.job(""),
        "execution": f"{rq}:execution:",
        "executions": f"{rq}:executions:",
        "rq_worker": f"{rq}:worker:",
        "suspended": f"{rq}:suspended",
    }


def _stored(lane: str) -> str:
    """The lane as records have it: they leave the default one out."""
    return "" if lane == _POLICY.priority else lane


def _lane(keys: Keys, lane: str) -> dict[str, str]:
    name, rq = QUEUES[lane], keys.rq_prefix
    return {
        "name": name,
        "queue": keys.queue(lane),
        "ticketed": keys.ticketed_by("", lane),
        "former": keys.ticketed_by_all(lane),
        "turns": keys.turns(lane),
        "started": f"{rq}:wip:{name}",
        "failed": f"{rq}:failed:{name}",
    }
