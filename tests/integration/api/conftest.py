"""Fixtures of tests of the API."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.support.api_client import AN_HOUR
from tracker.api import prefer
from tracker.api.answers import BUDGETS
from tracker.api.app import create_app
from tracker.api.dialects import google
from tracker.config import Settings
from tracker.events.hub import ChangeWaiter
from tracker.runtime.budgets import Budgets


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


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> list[Budgets]:
    """The budgets of the APIs that the test opens."""
    found: list[Budgets] = []

    def create(settings: Settings, **options: Any) -> web.Application:
        app = create_app(settings, **options)
        found.append(app[BUDGETS])
        return app

    monkeypatch.setattr("tracker.api.app.create_app", create)
    return found
