"""Fixtures of tests of the API."""

import asyncio

import pytest

from tests.support.api_client import AN_HOUR
from tracker.api import prefer
from tracker.api.dialects import google
from tracker.events.hub import ChangeWaiter


@pytest.fixture
def waits_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients may have answers held for an hour: within a test only an event ends such a wait."""
    monkeypatch.setattr(prefer, "MAX_WAIT", AN_HOUR)
    monkeypatch.setattr(google, "MAX_WAIT", AN_HOUR)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a request is being held."""
    event, enter = asyncio.Event(), ChangeWaiter.__enter__

    def note(self: ChangeWaiter) -> ChangeWaiter:
        event.set()
        return enter(self)

    monkeypatch.setattr(ChangeWaiter, "__enter__", note)
    return event
