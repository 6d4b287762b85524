"""The registry of tenants: who is in it, and how the API announces the tenants of its tokens."""

import pytest

from tests.support.scheduling import create
from tests.support.waiting import eventually
from tracker.store.keys import owner_digest
from tracker.store.store import Store
from tracker.store.tenant_registry import TenantRegistry


async def test_tenants_are_counted_once_however_they_come(store: Store) -> None:
    tenants = TenantRegistry(store)
    assert await tenants.count() == 0
    await tenants.announce([])
    await tenants.announce(["a", "b"])
    await tenants.announce(["b"])
    await create(store, tenant="b")
    await create(store, tenant="c")
    assert await tenants.count() == 3


async def test_an_announcement_never_makes_a_tenant_older(store: Store) -> None:
    await store.redis.zadd(store.keys.known_tenants, {owner_digest("a"): 9e15})
    await TenantRegistry(store).announce(["a"])
    assert await store.redis.zscore(store.keys.known_tenants, owner_digest("a")) == 9e15


@pytest.mark.usefixtures("api")
async def test_the_api_announces_the_tenants_of_its_tokens(store: Store) -> None:
    async def announced() -> bool:
        known = await store.redis.zrange(store.keys.known_tenants, 0, -1)
        return set(known) == {owner_digest("test"), owner_digest("other")}

    await eventually(announced)
