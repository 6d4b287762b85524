"""Which workers are alive, and for how long an announcement counts."""

from tracker.store.store import Store
from tracker.store.worker_registry import KNOWN_FOR, LIVES_FOR, SILENT_AFTER, WorkerRegistry

ABOUT = {"host": "a", "pid": 1, "types": ["test.plain"], "concurrency": 100, "processes": 4, "running": 3}


async def test_workers_that_say_nothing_for_a_minute_are_dead_and_later_forgotten(store: Store) -> None:
    workers = WorkerRegistry(store)
    await workers.announce("quiet", ABOUT)
    await workers.announce("loud", ABOUT)
    await workers.announce("left", ABOUT)
    await workers.gone("left")
    live = await workers.live()
    assert set(live) == {"quiet", "loud"}
    assert all(about.items() >= ABOUT.items() and about["silent"] < SILENT_AFTER for about in live.values())
    assert 0 < await store.redis.ttl(store.keys.worker("quiet")) <= LIVES_FOR
    await store.redis.zincrby(store.keys.workers, -SILENT_AFTER, "quiet")
    assert (await workers.live())["quiet"]["silent"] >= SILENT_AFTER
    await store.redis.delete(store.keys.worker("quiet"))  # as Redis does it
    assert set(await workers.live()) == {"loud"}
    assert set(await workers.known()) == {"quiet", "loud"}, "RQ believes in it still"
    await store.redis.zincrby(store.keys.workers, SILENT_AFTER - KNOWN_FOR - 1, "quiet")
    assert set(await workers.known()) == {"loud"}
    await workers.announce("loud", ABOUT)
    assert await store.redis.zrange(store.keys.workers, 0, -1) == ["loud"]
