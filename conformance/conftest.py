"""Fixtures of the conformance tests: one `tracker dev` for every client, and the options of `make conformance`."""

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.dev_stack import Dev, running_dev

ROOT = Path(__file__).parents[1]
LONG, SHORT = 20_000, 1_000
"""How many requests are made from the OpenAPI description: by default, and with --quick."""
REQUESTS = pytest.StashKey[int]()
SEED = pytest.StashKey[int]()
SAID = pytest.StashKey[list[str]]()
"""Lines that the tests print after the last test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--quick", action="store_true", help=f"{SHORT:,} requests from the description, not {LONG:,}")
    group.addoption("--requests", type=int, help="how many requests from the description (20,000)")
    group.addoption("--seed", type=int, help="seed of the requests from the description (random)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REQUESTS] = config.getoption("--requests") or (SHORT if config.getoption("--quick") else LONG)
    seed = config.getoption("--seed")
    config.stash[SEED] = random.randrange(10**6) if seed is None else seed
    config.stash[SAID] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the lines of the tests."""
    for line in config.stash[SAID]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A `tracker dev` with the types of `conformance.kinds`, and with the media of the examples as prompts."""
    settings = {
        "TRACKER_TYPES": "conformance.kinds",
        "TRACKER_MEDIA_DIR": str(ROOT / "examples" / "media"),
    }
    with running_dev(tmp_path_factory.mktemp("dev") / "data", "--workers", "1", **settings) as started:
        yield started


@pytest.fixture
def call() -> str:
    """A new call for each test. Its name has characters that must be percent-encoded in a URL."""
    return f"call {uuid4().hex[:8]}/ä"
