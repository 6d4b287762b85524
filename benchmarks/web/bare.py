"""Bare stack: aiohttp with uvloop, redis-py, and handlers without any checks (`python -m benchmarks.web.bare PORT`).

The handlers read the tracker's records and write records like them, on the Redis server that BENCH_URL names.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop
from aiohttp import web
from redis.asyncio import Redis

from benchmarks.peers.system import URL
from tracker.store.rq_tickets import ticket_fields

SCRIPT = (Path(__file__).parent / "bare.lua").read_text()
PREFIX, RQ = "barebon", "br"
"""Prefixes of keys. They are as long as the tracker's, `tracker` and `rq`, so that the same bytes are written."""
TICKET = ticket_fields()
"""The fields of the tracker's RQ job. The script copies them, as the tracker's create does."""
CALL = hashlib.sha1(b"call", usedforsecurity=False).hexdigest()
"""A digest, in the place of the tracker's digests of calls, tenants and contexts."""


class Handlers:
    """Handlers that make one call of Redis each, and answer with JSON."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._create = redis.register_script(SCRIPT)
        self._members: dict[str, Any] = {}

    async def read(self, request: web.Request) -> web.Response:
        """Read one of the tracker's records by its key."""
        return web.json_response(await self._redis.hgetall(f"tracker:op:{request.match_info['key']}"))

    async def collect(self, request: web.Request) -> web.Response:
        """Read the records of one of the tracker's calls in one pipeline. The keys are read once and kept."""
        call = request.match_info["call"]
        if call not in self._members:
            self._members[call] = await self._redis.zrange(f"tracker:call:{call}", 0, 99, desc=True)
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._members[call]:
                pipe.hgetall(f"tracker:op:{key}")
            return web.json_response({"value": await pipe.execute()})

    async def create(self, request: web.Request) -> web.Response:
        """Make the same writes as the tracker's create, by one script."""
        body = await request.json()
        identity = uuid4()
        key = identity.hex
        result = body["resultInfo"]
        record = {
            "key": key,
            "tenant": "bench",
            "call_id": request.match_info["call"],
            "type": body["@odata.type"],
            "digest": key,
            "client_context": body["clientContext"],
            "result_info": json.dumps([result["code"], result["subcode"], result["message"]], separators=(",", ":")),
        }
        keys = (
            f"{PREFIX}:op:{key}",
            f"{PREFIX}:ids:{CALL}",
            f"{PREFIX}:call:{CALL}",
            f"{PREFIX}:call:{CALL}:status:NotStarted",
            f"{PREFIX}:call:{CALL}:context:{CALL}",
            f"{PREFIX}:tickets",
            f"{RQ}:queues",
            f"{RQ}:job:",
            f"{RQ}:queue:operations",
            f"{PREFIX}:ticketed:default:{CALL}",
            f"{PREFIX}:feed:{CALL}",
            f"{PREFIX}:ticket:{CALL}",
            f"{PREFIX}:turns:default",
        )
        words = [word for pair in record.items() for word in pair]
        created = await self._create(keys, [key, str(identity), f"{PREFIX}:events", *words])
        return web.json_response(record | {"created": created}, status=201)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    async with Redis.from_url(URL, decode_responses=True) as redis:
        await redis.hset(f"{PREFIX}:ticket:{CALL}", items=TICKET)
        handlers = Handlers(redis)
        app = web.Application()
        app.router.add_get("/records/{key}", handlers.read)
        app.router.add_get("/lists/{call}", handlers.collect)
        app.router.add_post("/calls/{call}", handlers.create)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
