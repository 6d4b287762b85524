"""RQ tickets: what an operation's job looks like to RQ.

A ticket is an RQ job for one attempt. Its id, `<key>-<ticket>`, says which operation and which ticket; everything
else about it is the same for every operation, so the scripts write it from constants. A test proves that a pushed
ticket is, field by field, what `Queue.enqueue_job` would have written for the same job.
"""

import json
import re
import zlib
from typing import Any

from tracker.keys import Keys

FUNCTION = "workers.job.run_operation"
RESULT_TTL, FAILURE_TTL, NO_TIMEOUT = 0, 300, -1
LITTER_AGE = 600
"""Seconds after which nothing of RQ's about a lost ticket is of use any more: twice `FAILURE_TTL`."""

_JOB_ID = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,15})")


def ticket_fields() -> list[str | bytes | int]:
    """Name, value, name, value, ... of the fields that every ticket's job hash has.

    `created_at`, `enqueued_at` and `description` are set by the script, which knows the time and the ticket.
    """
    call = json.dumps([FUNCTION, None, [], {}]).encode()
    return [
        *("data", zlib.compress(call)),
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
    return {
        "operation": keys.operation(""),
        "ids": f"{keys.prefix}:ids:",
        "call": f"{keys.prefix}:call:",
        "job": keys.job(""),
        "queue_name": keys.queue_name,
        "ticket_fields": ticket_fields(),
        "litter_age": LITTER_AGE * 1_000_000,
        "test_clock": keys.clock if test_clock else False,
    }


def parse_job_id(job_id: str) -> tuple[str, int] | None:
    """The operation's key and the ticket's number, or None when the job is not one of ours."""
    match = _JOB_ID.fullmatch(job_id)
    return (match[1], int(match[2])) if match else None


def leftovers(keys: Keys, job_id: str) -> tuple[list[str], list[str], list[str]]:
    """What RQ may keep of a dead ticket: keys to delete, lists and sorted sets to take its id out of."""
    rq, queue = keys.rq_prefix, keys.queue_name
    return (
        [keys.job(job_id), f"{rq}:results:{job_id}", f"{rq}:executions:{job_id}"],
        [f"{rq}:queue:{queue}:intermediate"],
        [f"{rq}:failed:{queue}", f"{rq}:finished:{queue}"],
    )
