"""Unit tests run without a Redis server."""

import logging
from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog

from tracker.runtime import dev_valkey


def _refuse() -> NoReturn:
    pytest.fail("a unit test asks for a Redis server: it belongs in tests/integration")


@pytest.fixture(autouse=True)
def no_private_server() -> Iterator[None]:
    """Fail a test that starts a private server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dev_valkey, "find_server", _refuse)
        yield


@pytest.fixture(scope="session")
def server_url() -> str:
    """Fail a test that asks for the server of the session."""
    _refuse()


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Undo what a test configures of the log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
