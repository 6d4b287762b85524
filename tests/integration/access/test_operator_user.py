"""What people do with the operator's user of deploy/acl/users.acl, without `@dangerous`."""

from tests.support.scheduling import create, take
from tracker.cli import checks
from tracker.cli.doctor import _verify_and_repair
from tracker.config import Settings
from tracker.store.store import Store

USER = "tracker-operator"


async def test_all_operations_are_verified_and_repaired(store: Store, settings: Settings) -> None:
    records = [await create(store) for _ in range(3)]
    await take(store, coroutines=1)
    found, _, _ = await _verify_and_repair(settings, repair=True)
    assert found.faults == []
    await store.redis.delete(store.keys.operation(records[1].key))
    await store.redis.lpop("rq:queue:operations")
    found, left, _ = await _verify_and_repair(settings, repair=True)
    assert found.faults
    assert not left.faults


async def test_the_installation_is_examined(store: Store, settings: Settings) -> None:
    await create(store)
    assert checks.examine(await checks.gather(settings))
