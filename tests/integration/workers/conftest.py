"""Fixtures of tests that start hosts without a worker."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support import host_types
from tests.support.hosts import HostClient
from tests.support.processes import alive
from tracker.domain.type_modules import load_types
from workers.fork_server import ForkServer


@pytest.fixture
def host_fork_server() -> Iterator[ForkServer]:
    """A fork server with the types of `host_types`, not yet open. Its process must be gone after the test."""
    forked = ForkServer.fork(load_types([host_types.__name__]))
    yield forked
    assert not alive(forked.pid)


@pytest.fixture
async def host_client(host_fork_server: ForkServer) -> AsyncIterator[HostClient]:
    """A client of the hosts of that fork server."""
    await host_fork_server.open()
    try:
        yield HostClient(host_fork_server)
    finally:
        await host_fork_server.close()
