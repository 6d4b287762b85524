"""Hostile clients beside the load: another tenant that floods the queue, and clients that keep no rule of HTTP.

What they do is not journaled, because nothing is promised to them. The rules hold for the other clients.
"""

import asyncio
import gzip
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

import aiohttp
from yarl import URL

FLOODER = "flood"
"""The name of the tenant that floods."""
TOKENS: Mapping[str, str] = {"load": "token-of-the-load", FLOODER: "token-of-the-flood"}
"""The token of each tenant."""
FLOOD_TYPE = "#chaos.flood"
FLOOD_SECONDS = 1.0
"""How long an operation of the flooding tenant runs."""
FLOOD_BATCH, FLOOD_INTERVAL = 20, 1.0
"""How many operations the flooding tenant creates at a time, and the seconds between two times."""
ATTACKS_AT_ONCE = 20
"""How many connections of hostile clients are open at once at most."""
LONGEST_ATTACK = 5.0
"""The longest time in seconds for which a hostile client keeps its connection."""

_CALL = "/communications/calls/attack/operations"
_HOST = "Host: localhost\r\n"
_TOKEN = f"{_HOST}Authorization: Bearer {TOKENS['flood']}\r\n"
_BOMB = gzip.compress(b" " * 20_000_000)
_UNPACKS = f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(_BOMB)}\r\n\r\n"
_WRONG = f"GET {_CALL} HTTP/1.1\r\n{_HOST}Authorization: Bearer wrong\r\n\r\n"
ATTACKS: Sequence[bytes] = (
    b"",
    b"GET /heal",
    f"GET /healthz HTTP/1.1\r\n{_HOST}X-Half: ".encode(),
    f"POST {_CALL} HTTP/1.1\r\n{_TOKEN}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{".encode(),
    f"POST {_CALL} HTTP/1.1\r\n{_TOKEN}Transfer-Encoding: chunked\r\n\r\n1000\r\n{{".encode(),
    f"POST {_CALL} HTTP/1.1\r\n{_HOST}{_UNPACKS}".encode() + _BOMB,
    f"POST {_CALL} HTTP/1.1\r\n{_TOKEN}{_UNPACKS}".encode() + _BOMB,
    (f"GET {_CALL}?$top=999 HTTP/1.1\r\n{_TOKEN}\r\n" * 20).encode(),
    f"GET /events HTTP/1.1\r\n{_TOKEN}\r\n".encode(),
    (_WRONG * 30).encode(),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 10_000,
)
"""What a hostile client sends. Then it neither sends nor reads, and ends the connection by a reset."""


def token_lines() -> str:
    """The value of TRACKER_TOKENS that lets both tenants in."""
    return "\n".join(f"{name}:{name}:{sha256(token.encode()).hexdigest()}" for name, token in TOKENS.items())


def authorization(tenant: str) -> dict[str, str]:
    """The header by which a tenant is known."""
    return {"Authorization": f"Bearer {TOKENS[tenant]}"}


async def flood(urls: Sequence[str]) -> None:
    """Create operations of the flooding tenant, until cancelled."""
    body = {"@odata.type": FLOOD_TYPE, "seconds": FLOOD_SECONDS}
    one = {"method": "POST", "url": "/communications/calls/flood/operations", "body": body}
    batch = {"requests": [{**one, "id": str(number)} for number in range(FLOOD_BATCH)]}
    timeout = aiohttp.ClientTimeout(total=LONGEST_ATTACK)
    async with aiohttp.ClientSession(headers=authorization("flood"), timeout=timeout) as session:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(f"{random.choice(urls)}/$batch", json=batch) as answer:
                    await answer.read()
            await asyncio.sleep(FLOOD_INTERVAL)


async def attack(urls: Sequence[str], seed: int) -> None:
    """Open connections that keep no rule of HTTP, a bounded number at once, until cancelled."""
    choice = random.Random(f"{seed} attacks")

    async def attack_again_and_again() -> None:
        while True:
            with suppress(OSError, TimeoutError):
                await _attack_once(
                    URL(choice.choice(urls)), choice.choice(ATTACKS), choice.uniform(0.1, LONGEST_ATTACK)
                )
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for _ in range(ATTACKS_AT_ONCE):
            group.create_task(attack_again_and_again())


async def _attack_once(url: URL, sent: bytes, seconds: float) -> None:
    _, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(sent)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # the transport both reads and writes
        async with asyncio.timeout(seconds):
            await writer.drain()
            await asyncio.sleep(seconds)
    finally:
        writer.transport.abort()
