"""What RQ's own workers read of a job with the class `workers.OperationJob`, and which jobs it refuses."""

import json
import os
import pickle
import re
import zlib
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

from tracker.store.rq_tickets import CALL, FUNCTION, ticket_fields
from workers import OperationJob, job
from workers.rq_job import JobRefused

TICKET = f"{'0a' * 16}-7"
STAMPS = {"created_at": "2026-11-30T10:00:00.000000Z", "enqueued_at": "2026-11-30T10:00:00.000000Z"}
DANGEROUS = {
    "success_callback_name": "os.getpid",
    "failure_callback_name": "os.getpid",
    "stopped_callback_name": "os.getpid",
    "webhooks": json.dumps([{"url": "http://127.0.0.1:9", "job_status": "finished"}]),
    "dependency_ids": '["other"]',
    "dependency_id": "other",
    "retries_left": "3",
    "retry_intervals": "[1]",
    "repeats_left": "3",
    "repeat_intervals": "[1]",
    "rate_limit_key": "key",
    "group_id": "group",
}


class Touch:
    """A value that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def redis() -> Any:
    return fakeredis.FakeRedis()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each call of `run_operation`."""
    calls: list[int] = []
    monkeypatch.setattr(job, "run_operation", lambda: calls.append(os.getpid()))
    return calls


def plant(redis: Any, job_id: str = TICKET, **changes: Any) -> None:
    fields = ticket_fields()
    ticket = dict(zip(fields[::2], fields[1::2], strict=True)) | STAMPS | {"origin": "operations"}
    redis.hset(f"rq:job:{job_id}", mapping=ticket | changes)


def call(*parts: Any) -> bytes:
    return zlib.compress(json.dumps(parts).encode())


def test_a_ticket_runs_the_operation(redis: Any, runs: list[int]) -> None:
    plant(redis)
    ticket = OperationJob.fetch(TICKET, connection=redis)
    assert ticket.func_name == FUNCTION
    assert (ticket.timeout, ticket.result_ttl, ticket.failure_ttl) == (-1, 0, 300)
    assert (ticket.origin, ticket.get_status()) == ("operations", "queued")
    ticket.perform()
    assert runs == [os.getpid()]


def test_a_ticket_is_saved_as_rqs_own_class_saves_it(redis: Any) -> None:
    plant(redis, worker_name="w", started_at=STAMPS["created_at"], status="started")
    ours = OperationJob.fetch(TICKET, connection=redis).to_dict()
    assert ours == Job.fetch(TICKET, connection=redis, serializer="json").to_dict()


@pytest.mark.parametrize(
    "data",
    [
        call("os.getpid", None, [], {}),
        call(FUNCTION, None, [1], {}),
        call(FUNCTION, None, [], {"a": 1}),
        call(FUNCTION, "os.path", [], {}),
        call("workers.job.run_ticket", None, ["x"], {"worker": "w"}),
        json.dumps(["os.getpid", None, [], {}]).encode(),
        zlib.compress(CALL + b" "),
        zlib.compress(pickle.dumps((FUNCTION, None, (), {}))),
        zlib.compress(b"[" * 10_000_000),
        b"\xff\xfe",
        b"",
    ],
    ids=["function", "args", "kwargs", "instance", "ours", "unpacked", "space", "pickle", "large", "bytes", "empty"],
)
def test_another_call_is_refused(redis: Any, runs: list[int], data: bytes) -> None:
    plant(redis, data=data)
    refused = OperationJob.fetch(TICKET, connection=redis)
    with pytest.raises(JobRefused, match=r"runs operations, nothing else: the job calls .*, not workers\.job"):
        refused.perform()
    assert not runs


@pytest.mark.parametrize("field", DANGEROUS)
def test_a_ticket_that_makes_rq_do_more_is_refused(redis: Any, runs: list[int], field: str) -> None:
    plant(redis, **{field: DANGEROUS[field]})
    refused = OperationJob.fetch(TICKET, connection=redis)
    with pytest.raises(JobRefused, match=rf"the job has a [a-z ]+ \({field}\)"):
        refused.perform()
    assert not runs
    assert not any((refused.success_callback, refused.failure_callback, refused.stopped_callback, refused.webhooks))
    assert not any((refused.should_retry, refused.repeats_left, refused.has_rate_limit, refused._dependency_ids))
    assert not refused.group_id


def test_a_job_whose_id_is_no_tickets_is_refused(redis: Any, runs: list[int]) -> None:
    plant(redis, "planted")
    with pytest.raises(JobRefused, match="id is not that of a ticket"):
        OperationJob.fetch("planted", connection=redis).perform()
    assert not runs


@pytest.mark.parametrize("job_id", ["a.b", "../x", "é", "a\nb"])
def test_an_id_that_rq_cannot_hold_is_no_job(redis: Any, job_id: str) -> None:
    plant(redis, job_id)
    with pytest.raises(NoSuchJobError):
        OperationJob.fetch(job_id, connection=redis)


@pytest.mark.parametrize("serializer", [None, "pickle", "json"])
def test_no_field_is_unpickled_whatever_serializer_rq_has(redis: Any, tmp_path: Path, serializer: str | None) -> None:
    path = tmp_path / "unpickled"
    bomb = pickle.dumps(Touch(path))
    plant(redis, meta=bomb, result=bomb, exc_info=bomb, data=bomb)
    refused = OperationJob.fetch(TICKET, connection=redis, serializer=serializer)
    for read in (lambda: refused.func_name, refused.get_meta, lambda: refused.data, refused.perform):
        with pytest.raises((JobRefused, ValueError)):
            raise ValueError(read())
    assert not path.exists()


def test_the_bomb_of_these_tests_goes_off_in_rqs_own_class(redis: Any, tmp_path: Path) -> None:
    plant(redis, meta=pickle.dumps(Touch(tmp_path / "unpickled")))
    Job.fetch(TICKET, connection=redis)
    assert (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("field", [*STAMPS, "status", "timeout", "result_ttl", "failure_ttl", "origin", "description"])
@pytest.mark.parametrize("value", [b"\xff", b"2026-99-99T99:99:99Z", b"\x1b[31m\n", b"x" * 10_000])
def test_no_field_of_another_form_reaches_rq(redis: Any, runs: list[int], field: str, value: bytes) -> None:
    """RQ's own class raises for most of these, and its worker ends."""
    changes: dict[str, Any] = {field: value}
    plant(redis, **changes)
    ticket = OperationJob.fetch(TICKET, connection=redis)
    assert (ticket.timeout, ticket.result_ttl, ticket.failure_ttl) == (-1, 0, 300)
    assert ticket.description == f"{FUNCTION}()"
    assert re.fullmatch(r"operations|[0-9A-Z:-]+", ticket.origin)
    ticket.perform()
    assert runs


def test_what_a_refused_job_calls_stays_in_redis_for_people_to_read(redis: Any) -> None:
    data = call("os.getpid", None, [], {})
    plant(redis, data=data, success_callback_name="os.getpid")
    OperationJob.fetch(TICKET, connection=redis).save()
    assert redis.hget(f"rq:job:{TICKET}", "data") == data
    assert redis.hget(f"rq:job:{TICKET}", "success_callback_name") == b""


def test_the_message_of_a_refused_job_is_short_and_ascii(redis: Any) -> None:
    plant(redis, data=call("\x1b[31m\u202e\xe9\n" * 1000))
    with pytest.raises(JobRefused) as caught:
        OperationJob.fetch(TICKET, connection=redis).perform()
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_the_end_of_a_ticket_starts_no_other_job(redis: Any) -> None:
    plant(redis)
    plant(redis, "planted", dependency_ids=json.dumps([TICKET]), status="deferred")
    redis.sadd(Job.dependents_key_for(TICKET), "planted")
    ticket = OperationJob.fetch(TICKET, connection=redis)
    Queue("operations", connection=redis, job_class=OperationJob, serializer="json").enqueue_dependents(ticket)
    assert redis.hget("rq:job:planted", "status") == b"deferred"
    assert not redis.llen("rq:queue:operations")
