"""Sentences of `tracker why` for facts that are hard to produce with a server."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.records import make_record
from tracker.cli import apart_explanations, explanations
from tracker.cli.explanations import explain
from tracker.domain.operation import SECOND, OperationStatus, ResultInfo
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.maintenance.diagnosis import Diagnosis, Waiting

NOW = 1_000_000 * SECOND
ABOUT = {"types": [canonical(COMMS_OPERATION)], "concurrency": 2, "processes": 1, "running": 0}


def told(facts: dict[str, Any], **record: Any) -> dict[str, str]:
    """The sentences by their words, for an operation with such a record, beside one able worker unless told."""
    found: dict[str, Any] = {
        "workers": {"w1": ABOUT},
        "stock_workers": 0,
        "suspended": False,
        "sweeping": True,
        **facts,
    }
    diagnosis = Diagnosis(record=make_record(**record), now=NOW, attempts=(), **found)
    return {reason.word: reason.text for reason in explain(diagnosis)}


def test_an_open_limiter_says_that_the_operation_goes_on() -> None:
    facts = {"gate": Waiting(2, 5), "opens": NOW + 3 * SECOND, "running": 1}
    said = told(facts, stage=Stage.PARKED, blocker="cap", policy=Policy(concurrency=2))
    kind = COMMS_OPERATION
    assert said == {
        "gate": f"The limits of {kind} allow another start; it is at place 3 of 5 among those that wait, "
        "and is looked at in 3 s."
    }


def test_released_operations_count_for_the_concurrency_limit() -> None:
    facts = {"gate": Waiting(0, 1), "opens": NOW, "running": 1, "let_through": 1}
    said = told(facts, stage=Stage.PARKED, blocker="cap", policy=Policy(concurrency=2))
    assert "and 2 run or are about to start" in said["cap"]


@pytest.mark.parametrize(("running", "word"), [(2, "able_workers"), (3, "workers_full"), (4, "workers_full")])
def test_a_worker_is_full_when_it_has_room_for_neither_kind(running: int, word: str) -> None:
    said = told({"queue": Waiting(0, 1), "workers": {"w1": {**ABOUT, "running": running}}}, stage=Stage.QUEUED)
    assert list(said) == ["queue", word]


def test_a_worker_that_reports_little_is_shown_with_what_is_known() -> None:
    said = told(
        {"queue": Waiting(0, 1), "workers": {"w1": {"types": ABOUT["types"], "running": 0}}}, stage=Stage.QUEUED
    )
    assert "w1 (runs 0, room for ? coroutines and ? functions)" in said["able_workers"]


def test_rqs_own_workers_may_take_what_ours_cannot() -> None:
    facts = {"queue": Waiting(0, 1), "workers": {"w1": {**ABOUT, "running": 3}}, "stock_workers": 2}
    assert list(told(facts, stage=Stage.QUEUED)) == ["queue", "able_workers"]
    facts |= {"workers": {"w1": {**ABOUT, "types": []}}}
    assert "2 workers of RQ's own" in told(facts, stage=Stage.QUEUED)["stock_workers"]


@pytest.mark.parametrize(
    "record",
    [
        {"stage": Stage.QUEUED},
        {"stage": Stage.DELAYED},
        {"stage": Stage.RUNNING, "began": NOW},
        *({"stage": Stage.PARKED, "blocker": blocker} for blocker in ("serial", "cap", "rate", "")),
    ],
)
def test_an_operation_in_no_index_of_its_stage_is_misplaced(record: dict[str, Any]) -> None:
    assert "tracker doctor --verify" in told({}, **record)["misplaced"]


def test_an_attempt_of_rqs_own_worker_need_not_be_in_the_worker_registry() -> None:
    running = {"stage": Stage.RUNNING, "worker": "stock", "attempt": 1, "began": NOW - 5 * SECOND}
    facts = {"lease": NOW + 4 * SECOND}
    assert told(facts, **running) == {
        "running": "Attempt 1 runs on stock, for 5 s; it must end in 14 min 55 s.",
        "lease": "Its lease runs out in 4 s unless it is renewed.",
    }
    assert "worker_silent" in told(facts, **running, rq=True)


def test_a_deadline_that_has_passed_is_shown_as_late() -> None:
    said = told({"lease": NOW}, stage=Stage.RUNNING, worker="w1", attempt=1, began=NOW - 903 * SECOND)
    assert said["running"].endswith("it must end now (3 s late).")
    assert said["lease_ran_out"].startswith("Its lease ran out 0 s ago")


@pytest.mark.parametrize(
    ("by", "reason", "words"),
    [("", "", "It was canceled."), ("ops", "", "It was canceled by ops."), ("", "late", "It was canceled: late")],
)
def test_a_cancel_says_what_is_known_of_it(by: str, reason: str, words: str) -> None:
    ended = {"stage": Stage.FAILED, "status": OperationStatus.FAILED, "completed": NOW - SECOND, "canceled": True}
    result = ResultInfo(code=499, message="Canceled.")
    said = told({}, **ended, cancel_by=by, cancel_reason=reason, result_info=result, expires=NOW + SECOND)
    assert said["canceled"] == words
    assert said["ended"] == "It ended Failed 1 s ago, and never began: 499/0 Canceled."


def test_what_was_not_deleted_has_expired() -> None:
    ended = {"stage": Stage.TOMBSTONE, "status": OperationStatus.COMPLETED, "completed": NOW, "attempt": 2}
    said = told({}, **ended, expires=NOW + 86400 * SECOND)
    assert said["expired"] == "It has expired: only its id is left, which answers 410 for another 1 d."
    assert said["ended"] == "It ended Completed 0 s ago, after 2 attempts."


def test_every_reason_has_its_row_in_the_operators_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("| word | what it means |")[2].partition("\n\n")[0]
    rows = {
        word
        for line in table.splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    modules = (explanations, apart_explanations)
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    words = set(re.findall(r'reason\(\s*"(\w+)"', source))
    words |= {
        word for pair in re.findall(r'word, text = \(?"(\w+)"(?:.*?else \("(\w+)")?', source) for word in pair if word
    }
    assert words == rows
