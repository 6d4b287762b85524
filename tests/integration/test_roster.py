"""Which workers live: what they say of themselves, and how long it counts."""

from tracker.roster import LIVES_FOR, Workers
from tracker.store import Store

ABOUT = {"host": "a", "pid": 1, "types": ["test.plain"], "concurrency": 100, "processes": 4, "running": 3}


async def test_workers_that_say_nothing_for_a_minute_are_forgotten(store: Store) -> None:
    workers = Workers(store)
    await workers.announce("quiet", ABOUT)
    await workers.announce("loud", ABOUT)
    await workers.announce("left", ABOUT)
    await workers.gone("left")
    assert await workers.live() == {"quiet": ABOUT, "loud": ABOUT}
    assert 0 < await store.redis.ttl(store.keys.worker("quiet")) <= LIVES_FOR
    await store.redis.delete(store.keys.worker("quiet"))  # as Redis does it
    await store.redis.zincrby(store.keys.workers, -LIVES_FOR - 1, "quiet")
    assert await workers.live() == {"loud": ABOUT}
    assert await store.redis.zrange(store.keys.workers, 0, -1) == ["loud"]
