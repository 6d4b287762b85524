"""Damages of a stored record: what a fault of a disk, a mistaken command or another program may leave in its place."""

from collections.abc import Awaitable, Callable, Mapping

from tracker.domain.record import Record
from tracker.store.store import Store

Damage = Callable[[Store, Record], Awaitable[None]]


def _with(**fields: str | bytes) -> Damage:
    async def damage(store: Store, record: Record) -> None:
        for name, value in fields.items():
            await store.redis.hset(store.keys.operation(record.key), name, value)

    return damage


def _without(field: str) -> Damage:
    async def damage(store: Store, record: Record) -> None:
        assert await store.redis.hdel(store.keys.operation(record.key), field)

    return damage


async def _a_string(store: Store, record: Record) -> None:
    await store.redis.delete(store.keys.operation(record.key))
    await store.redis.set(store.keys.operation(record.key), "x")


async def _a_list(store: Store, record: Record) -> None:
    await store.redis.delete(store.keys.operation(record.key))
    await store.redis.rpush(store.keys.operation(record.key), "x")


async def _another_hash(store: Store, record: Record) -> None:
    await store.redis.delete(store.keys.operation(record.key))
    await store.redis.hset(store.keys.operation(record.key), "x", "y")


async def remove_other_types(store: Store) -> None:
    """Remove the keys of other types that damages have put in the place of records."""
    async for name in store.redis.scan_iter(match=store.keys.operation("*")):
        if await store.redis.type(name) != "hash":
            await store.redis.delete(name)


SEEN_BY_SCRIPTS: Mapping[str, Damage] = {
    "a string in its place": _a_string,
    "a list in its place": _a_list,
    "another hash in its place": _another_hash,
    "no stage": _without("stage"),
    "no time of creation": _without("created"),
    "a revision that is no number": _with(revision="x"),
    "a time that is no number": _with(created="yesterday"),
    "an attempt that is no number": _with(attempt="first"),
    "progress that is no number": _with(percent="half"),
}
"""Damages that the scripts find, too: they treat the record as gone."""
DAMAGES: Mapping[str, Damage] = {
    **SEEN_BY_SCRIPTS,
    "no tenant": _without("tenant"),
    "no type": _without("type"),
    "a status that nobody knows": _with(status="Resting"),
    "a time after the year 9999": _with(created="9" * 19),
    "a number with too many digits": _with(created="1" * 5000),
    "members that are no JSON": _with(members="{"),
    "members that are no object": _with(members="[1]"),
    "members that are nested too deep": _with(members='{"a":' * 100_000),
    "results that are no object": _with(results='"x"'),
    "a result that is no JSON": _with(result_info="[200,0"),
    "a result of other types": _with(result_info='["200",0,7]'),
    "a result that is too short": _with(result_info="[200]"),
    "a policy that is no JSON": _with(policy="x"),
    "a policy that is no object": _with(policy="[]"),
    "a policy of other types": _with(policy='{"attempts":"many","retention":"long","run_within":{}}'),
    "bytes that are no UTF-8": _with(cancel_reason=b"\xff\xfe"),
}
"""Every damage by its name."""
ODD_POLICIES: Mapping[str, Damage] = {
    "a rate without its time": _with(policy='{"rate":5}', gate="x"),
    "times that no clock has": _with(policy='{"retention":1e300,"tombstone":1e300,"run_within":-1}'),
}
"""Policies that can be read, and make no sense. The record counts as whole, and harms no other."""
