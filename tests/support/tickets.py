"""Jobs that RQ itself enqueues with the fields of our tickets."""

from typing import Any

from rq import Queue
from rq.job import Job

from tracker.store import rq_tickets


def enqueued_by_rq(redis: Any, job_id: str) -> tuple[Queue, Job]:
    """The queue and the job after `Queue.enqueue_job` with the fields of a ticket."""
    rq = Queue("operations", connection=redis, serializer="json")
    job = Job.create(
        rq_tickets.FUNCTION,
        connection=redis,
        id=job_id,
        serializer=rq.serializer,
        timeout=rq_tickets.NO_TIMEOUT,
        result_ttl=rq_tickets.RESULT_TTL,
        failure_ttl=rq_tickets.FAILURE_TTL,
        args=(),
        kwargs={},
    )
    rq.enqueue_job(job)
    return rq, job
