"""RQ tickets: the RQ job of one attempt of an operation.

A ticket's job id is `<key>-<ticket>`: the operation's internal key, and the number of the ticket. Tickets differ by the
id, the times and the queue only, so the scripts copy the other fields from a template in Redis. A test compares a
ticket field by field with what RQ's `Queue.enqueue_job` writes for the same job.
"""

import json
import re
import zlib

from tracker.store.keys import QUEUES, Keys

FUNCTION = "workers.job.run_operation"
CALL = json.dumps([FUNCTION, None, [], {}]).encode()
"""The call of every ticket, as RQ's JSON serializer writes it: function, instance, arguments."""
RESULT_TTL, FAILURE_TTL, NO_TIMEOUT = 0, 300, -1
"""Seconds for which RQ keeps a finished and a failed job; RQ's value for a job without a time limit."""
_JOB_ID = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,15})")


def ticket_fields() -> list[str | bytes | int]:
    """The fields that every ticket's job hash has: name, value, ...

    The script adds `created_at`, `enqueued_at` and `origin`, because it knows the time and the lane.
    """
    return [
        *("data", zlib.compress(CALL)),
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


def parse_job_id(job_id: str) -> tuple[str, int] | None:
    """The operation's key and the ticket's number, or None when the job is not one of ours."""
    match = _JOB_ID.fullmatch(job_id)
    return (match[1], int(match[2])) if match else None


def leftovers(keys: Keys, job_id: str) -> tuple[list[str], list[str], list[str]]:
    """The traces of a lost ticket in RQ's keys: keys to delete, and the lists and sorted sets that may hold its id."""
    rq, queues = keys.rq_prefix, QUEUES.values()
    return (
        [keys.job(job_id), f"{rq}:results:{job_id}", f"{rq}:executions:{job_id}"],
        [f"{rq}:queue:{queue}:intermediate" for queue in queues],
        [f"{rq}:{registry}:{queue}" for queue in queues for registry in ("failed", "finished")],
    )
