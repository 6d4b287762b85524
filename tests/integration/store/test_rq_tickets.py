"""Tickets are field by field what RQ enqueues."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis
from rq.job import Job

from tests.support.records import make_record
from tests.support.tickets import enqueued_by_rq
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.store import rq_tickets
from tracker.store.store import Store

STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
VOLATILE = (b"created_at", b"enqueued_at")


async def test_a_ticket_equals_field_by_field_what_rq_would_have_enqueued(store: Store, redis_url: str) -> None:
    record, _ = await store.create(make_record())
    job_id = f"{record.key}-{record.ticket}"
    with BlockingRedis.from_url(redis_url) as redis:
        ours = redis.hgetall(store.keys.job(job_id))
        our_list, our_queues = redis.lrange(store.keys.queue(), 0, -1), redis.smembers(store.keys.queues)
        redis.flushall()
        rq, job = enqueued_by_rq(redis, job_id)
        theirs = redis.hgetall(job.key)
        assert our_list == redis.lrange(rq.key, 0, -1)
        assert our_queues == redis.smembers("rq:queues")
        assert redis.ttl(job.key) == -1
    for field in VOLATILE:
        assert STAMP.fullmatch(ours.pop(field))
        assert STAMP.fullmatch(theirs.pop(field))
    assert ours == theirs


async def test_rq_reads_the_times_of_a_ticket_as_the_servers_time(store: Store, redis_url: str) -> None:
    record, _ = await store.create(make_record())
    with BlockingRedis.from_url(redis_url) as redis:
        job = Job.fetch(f"{record.key}-{record.ticket}", connection=redis, serializer="json")
        assert job.enqueued_at is not None
        assert abs(job.enqueued_at.timestamp() * 1e6 - record.created) < 5_000


@pytest.mark.parametrize(
    ("job_id", "parsed"),
    [
        (f"{'0a' * 16}-7", ("0a" * 16, 7)),
        (f"{'0a' * 16}-07", None),
        (f"{'0A' * 16}-7", None),
        (f"{'0a' * 16}-", None),
        ("", None),
        (f"{'0a' * 16}-7\n", None),
    ],
)
def test_only_our_own_job_ids_are_taken_for_tickets(job_id: str, parsed: tuple[str, int] | None) -> None:
    assert rq_tickets.parse_job_id(job_id) == parsed


async def test_one_hash_tag_in_every_key_when_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("TRACKER_HASH_TAG", "t1")
    program = (
        "import asyncio\n"
        "from tracker.config import load\n"
        "settings = load()\n"
        "from rq.defaults import RQ_KEY_PREFIX\n"
        "assert RQ_KEY_PREFIX == settings.rq_key_prefix == '{t1}rq', RQ_KEY_PREFIX\n"
        "from tests.support.records import make_record\n"
        "from tracker.store.connection import open_redis\n"
        "from tracker.store.store import Store\n"
        "async def main():\n"
        "    async with open_redis(settings) as redis:\n"
        "        await Store(redis, settings).create(make_record())\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    with BlockingRedis.from_url(redis_url, decode_responses=True) as redis:
        names = list(redis.scan_iter())
    assert names
    assert all(name.startswith("{t1}") for name in names), names
    assert settings.rq_key_prefix == "rq"


async def test_creating_takes_one_round_trip(store: Store, redis_url: str) -> None:
    await store.create(make_record())
    with BlockingRedis.from_url(redis_url) as redis, redis.monitor() as monitor:
        await store.create(make_record(status=OperationStatus.NOT_STARTED))
        redis_calls = []
        with BlockingRedis.from_url(redis_url) as marker:
            marker.echo("end")
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                break
            if command["client_type"] != "lua" and not command["command"].startswith(("HELLO", "CLIENT")):
                redis_calls.append(command["command"].split()[0])
    assert redis_calls == ["EVALSHA"]
