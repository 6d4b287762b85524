"""RQ tickets: what an operation's job looks like to RQ.

A ticket is an RQ job for one attempt. Its id, `<key>-<ticket>`, says which operation and which ticket; everything
else about it is the same for every operation, so the scripts write it from constants. A test proves that a pushed
ticket is, field by field, what `Queue.enqueue_job` would have written for the same job.
"""

import json
import re
import zlib
from hashlib import sha1
from typing import Any

from tracker.domain.policy import Policy
from tracker.store.keys import QUEUES, Keys

FUNCTION = "workers.job.run_operation"
RESULT_TTL, FAILURE_TTL, NO_TIMEOUT = 0, 300, -1
LITTER_AGE = 600
"""Seconds after which nothing of RQ's about a lost ticket is of use any more: twice `FAILURE_TTL`."""
LOOK_AGAIN = 5
"""Seconds after which a gate that nobody opened is looked at anyhow."""
PROBE_AFTER = 30
"""Seconds after which an operation that no worker had the type for is tried again."""
FOREIGN_FOR = 86_400
"""Seconds that a job which is no ticket of ours stays in RQ's failed registry."""
HISTORY_LIMIT = 10
"""Ended attempts that are kept of an operation."""
FEED_LENGTH = 5000
"""Entries that a tenant's feed keeps, or a few more: each is what one script told of the tenant's operations."""
TOLD_AT_ONCE = 100
"""Most changes in one of them."""
FEED_FOR = 86_400
"""Seconds that a feed is kept after its last entry, or half of it at least."""
TOLD_RESULT = 1024
"""Bytes of a result as JSON above which it is told without its message."""
WINDOW = 200
"""Tickets at the head of a queue among which a worker looks for a kind that it has room for."""
MOST_JUDGED = 3 * WINDOW
"""Tickets that one claim looks at: a whole window of each lane, so that none uses up the others' looks."""
TURNS = [
    [first, *(lane for lane in QUEUES if lane != first)]
    for first in ("high", "default", "high", "default", "high", "low", "high", "default", "high", "default")
]
"""Which lane has the first turn at each of ten claims: none can starve another."""

_JOB_ID = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,15})")


def ticket_fields() -> list[str | bytes | int]:
    """Name, value, name, value, ... of the fields that every ticket's job hash has.

    `created_at`, `enqueued_at` and `origin` are set by the script, which knows the time and the lane.
    """
    call = json.dumps([FUNCTION, None, [], {}]).encode()
    return [
        *("data", zlib.compress(call)),
        *("description", f"{FUNCTION}()"),
        *("success_callback_name", ""),
        *("failure_callback_name", ""),
        *("stopped_callback_name", ""),
        *("started_at", ""),
        *("ended_at", ""),
        *("last_heartbeat", ""),
        *("worker_name", ""),
        *("group_id", ""),
        *("timeout", str(NO_TIMEOUT)),
        *("result_ttl", str(RESULT_TTL)),
        *("failure_ttl", str(FAILURE_TTL)),
        *("status", "queued"),
    ]


def constants(keys: Keys, *, test_clock: bool) -> dict[str, Any]:
    """What the scripts are compiled with."""
    policy = Policy()
    return {
        "operation": keys.operation(""),
        "ids": f"{keys.prefix}:ids:",
        "call": f"{keys.prefix}:call:",
        "once": f"{keys.prefix}:once:",
        "line": f"{keys.prefix}:line:",
        "gate": f"{keys.prefix}:gate:",
        "lack": f"{keys.prefix}:lack:",
        "history": keys.history(""),
        "control": keys.control(""),
        "feed": f"{keys.prefix}:feed:",
        "feed_length": FEED_LENGTH,
        "feed_for": FEED_FOR,
        "told_at_once": TOLD_AT_ONCE,
        "told_result": TOLD_RESULT,
        "batch": f"{keys.prefix}:batch:",
        "job": keys.job(""),
        "execution": f"{keys.rq_prefix}:execution:",
        "executions": f"{keys.rq_prefix}:executions:",
        "rq_worker": f"{keys.rq_prefix}:worker:",
        "suspended": f"{keys.rq_prefix}:suspended",
        "lanes": {"" if lane == policy.priority else lane: _lane(keys, lane) for lane in QUEUES},
        "turns": [["" if lane == policy.priority else lane for lane in turn] for turn in TURNS],
        "ticket": keys.ticket(sha1(repr(ticket_fields()).encode(), usedforsecurity=False).hexdigest()),
        "ticket_fields": ticket_fields(),
        "retention": int(policy.retention),
        "tombstone": int(policy.tombstone),
        "run_within": int(policy.run_within),
        "litter_age": LITTER_AGE * 1_000_000,
        "look_again": LOOK_AGAIN * 1_000_000,
        "probe_after": PROBE_AFTER * 1_000_000,
        "foreign_for": FOREIGN_FOR,
        "history_limit": HISTORY_LIMIT,
        "released_at_once": 100,
        "window": WINDOW,
        "chunk": 50,
        "most_judged": MOST_JUDGED,
        "test_clock": keys.clock if test_clock else False,
    }


def _lane(keys: Keys, lane: str) -> dict[str, str]:
    name = QUEUES[lane]
    return {
        "name": name,
        "queue": keys.queue(lane),
        "ticketed": keys.ticketed(lane),
        "started": f"{keys.rq_prefix}:wip:{name}",
        "failed": f"{keys.rq_prefix}:failed:{name}",
    }


def parse_job_id(job_id: str) -> tuple[str, int] | None:
    """The operation's key and the ticket's number, or None when the job is not one of ours."""
    match = _JOB_ID.fullmatch(job_id)
    return (match[1], int(match[2])) if match else None


def leftovers(keys: Keys, job_id: str) -> tuple[list[str], list[str], list[str]]:
    """What RQ may keep of a dead ticket: keys to delete, lists and sorted sets to take its id out of."""
    rq, queues = keys.rq_prefix, QUEUES.values()
    return (
        [keys.job(job_id), f"{rq}:results:{job_id}", f"{rq}:executions:{job_id}"],
        [f"{rq}:queue:{queue}:intermediate" for queue in queues],
        [f"{rq}:{registry}:{queue}" for queue in queues for registry in ("failed", "finished")],
    )
