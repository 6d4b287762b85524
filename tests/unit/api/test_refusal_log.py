"""The log of refused requests: what a line says, and how many there are."""

from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from structlog.testing import capture_logs

from tracker.api import refusal_log
from tracker.api.auth import Authenticator, open_callers
from tracker.api.error_responses import REASON
from tracker.api.refusal_log import WINDOW, RefusalLog
from tracker.config import Settings

SETTINGS = Settings(tokens=f"ann:blue:{sha256(b'secret').hexdigest()}", tokens_file=None, auth="tokens")


@cache
def request_of(remote: str, token: str) -> web.BaseRequest:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = make_mocked_request("GET", "/secret/path?token=1", headers=CIMultiDict(headers)).clone(remote=remote)
    request._match_info = None  # as of a request that the parser refused
    return request


class Log:
    """A refusal log whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = RefusalLog(Authenticator(SETTINGS, open_callers(SETTINGS)), clock=lambda: self.now)

    def refuse(self, remote: str = "192.0.2.1", *, status: int = 401, token: str = "", reason: str = "no") -> None:
        request = request_of(remote, token)
        request[REASON] = reason
        self.log.note(request, status, "id-1")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.log.sweep(self.now - WINDOW)


@pytest.fixture
def refusals() -> Log:
    return Log()


def refused(logs: Any) -> list[Any]:
    return [line for line in logs if line["event"] == "request_refused"]


def test_a_line_names_status_reason_and_address(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.refuse()
    assert logs == [
        {
            "event": "request_refused",
            "log_level": "info",
            "status": 401,
            "reason": "no",
            "route": "",
            "remote": "192.0.2.1",
            "request_id": "id-1",
        }
    ]


def test_a_line_names_the_caller_of_a_known_token(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.refuse(token="secret", status=400)
        refusals.refuse(token="wrong", status=400)
    assert [(line.get("caller"), line.get("tenant"), line.get("remote")) for line in logs] == [
        ("ann", "blue", None),
        (None, None, "192.0.2.1"),
    ]
    assert "wrong" not in str(logs)
    assert "secret" not in str(logs)


def test_a_second_refusal_within_a_minute_has_no_line_and_is_counted(refusals: Log) -> None:
    with capture_logs() as logs:
        for _ in range(2900):
            refusals.refuse(reason="later")
        refusals.pass_time(WINDOW - 1)
        assert len(logs) == 1
        refusals.pass_time(1)
    assert [line.get("suppressed") for line in logs] == [None, 2899]


def test_a_client_that_goes_on_gets_one_line_a_minute(refusals: Log) -> None:
    with capture_logs() as logs:
        for _ in range(600):
            refusals.refuse()
            refusals.pass_time(1)
    assert [line.get("suppressed") for line in logs] == [None, 59, *[60] * 9]


def test_a_client_that_was_quiet_for_a_minute_gets_a_line_at_once_and_is_forgotten(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.refuse()
        refusals.pass_time(WINDOW)
        assert len(refusals.log) == 0
        refusals.refuse()
    assert len(logs) == 2


def test_each_status_and_each_client_has_lines_of_its_own(refusals: Log) -> None:
    with capture_logs() as logs:
        for status in (400, 401, 403, 429):
            for remote in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
                refusals.refuse(remote, status=status)
    assert [line["remote"] for line in logs[:3]] == ["192.0.2.1", "192.0.2.2", "2001:db8::/64"]
    assert len(logs) == 4 * 3


def test_a_reason_is_cut(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.refuse(reason="x" * 10_000)
    assert logs[0]["reason"] == "x" * 200


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal_log, "MOST_CLIENTS", 40)
    monkeypatch.setattr(refusal_log, "MOST_LINES", 30)


@pytest.mark.usefixtures("small_tables")
def test_many_clients_get_a_bounded_number_of_lines_and_the_rest_is_counted(refusals: Log) -> None:
    with capture_logs() as logs:
        for number in range(100):
            refusals.refuse(f"10.0.0.{number}")
        assert len(logs) == 30
        assert len(refusals.log) == 40
        refusals.pass_time(WINDOW)
    assert logs[-1] == {
        "event": "refusals_suppressed",
        "log_level": "warning",
        "refusals": 100 - 30,
    }


@pytest.mark.usefixtures("small_tables")
def test_no_refusal_is_lost_from_the_counts(refusals: Log) -> None:
    """Each refusal has a line, or is in the `suppressed` of a line, or in the `refusals` of all that have none."""
    sent = 0
    with capture_logs() as logs:
        for minute in range(5):
            for number in range(60):
                refusals.refuse(f"10.0.{minute % 2}.{number}", status=400 + number % 2)
                refusals.refuse("192.0.2.9")
                sent += 2
            refusals.pass_time(WINDOW)
        refusals.pass_time(WINDOW)
        refusals.pass_time(WINDOW)
    lines = sum(line.get("suppressed", 1) for line in refused(logs))
    assert lines + sum(line["refusals"] for line in logs if line["event"] == "refusals_suppressed") == sent


def test_a_request_without_an_address_is_logged_too(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.refuse("")
    assert logs[0]["remote"] == "unknown"


def test_the_path_itself_is_never_logged(refusals: Log) -> None:
    with capture_logs() as logs:
        refusals.log.note(request_of("192.0.2.3", ""), 400, "id", reason="BadHttpMessage")
    assert "secret" not in str(logs)
    assert logs[0]["reason"] == "BadHttpMessage"
