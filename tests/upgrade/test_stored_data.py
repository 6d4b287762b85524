"""This version opens data that another version has stored."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import LONGEST_WAIT
from tests.upgrade.asking import Question
from tests.upgrade.receiver import running_receiver
from tests.upgrade.stored import HERE, Copy, Opened, Told
from tests.upgrade.stored_operations import SPOOLED, STAGES

VERSIONS = sorted(path.stem for path in (HERE / "stored").glob("*.json"))
MINUTE, HOUR, DAY = 60, 3600, 86400

Ends = dict[str, tuple[str, int, int, int]]
"""Name in `stored_operations` → status, `code` and `subcode` of the result, and number of attempts."""

AT_ONCE: Ends = {
    "queue-high": ("Completed", 200, 3, 1),
    "queue-default": ("Completed", 200, 3, 1),
    "queue-low": ("Completed", 200, 3, 1),
    "queue-patched": ("Completed", 200, 3, 1),
    "queue-no-id": ("Completed", 200, 3, 1),
    "queue-named": ("Completed", 200, 3, 1),
    "queue-other": ("Completed", 200, 3, 1),
    "park-serial": ("Completed", 200, 0, 1),
    "park-serial-next": ("Completed", 200, 0, 1),
    "park-cap": ("Completed", 200, 0, 1),
    "park-type": ("Completed", 200, 0, 1),
    "run": ("Completed", 200, 0, 2),
    "run-function": ("Completed", 200, 0, 2),
    "run-function-too": ("Completed", 200, 0, 2),
    "run-patched": ("Completed", 200, 0, 2),
    "run-serial": ("Completed", 200, 0, 2),
    "run-capped": ("Completed", 200, 0, 2),
    "run-handed": ("Completed", 200, 0, 3),
    "run-lost": ("Completed", 200, 0, 4),
    "run-last": ("Completed", 200, 0, 2),
    "run-cancel": ("Failed", 499, 0, 1),
    "spooled": ("Completed", 200, 0, 1),
    "spooled-function": ("Completed", 200, 0, 1),
    "spooled-rejected": ("Failed", 400, 9, 1),
}
"""Operations that end as soon as there are workers and a sweeper. The attempt that ran at the kill is lost: another
attempt follows if the type allows it.
"""
AFTER_HOURS: Ends = {
    "delay": ("Completed", 200, 3, 1),
    "delay-url": ("Completed", 200, 0, 1),
    "delay-backoff": ("Completed", 200, 0, 2),
    "spooled-retry": ("Completed", 200, 0, 2),
    "park-start": ("Failed", 408, 2, 0),
}
"""Operations that are due, or must have started, within three hours after the kill."""
AFTER_A_DAY: Ends = {"park-rate": ("Completed", 200, 3, 1)}
"""An operation that waits for the rate of its type: it may start a day after the kill."""
CANCELED_BY_THE_TEST: Ends = {"delay-far": ("Failed", 499, 0, 0), "park-nobody": ("Failed", 499, 0, 0)}
"""Operations that still wait after a day: for their time, and for a worker with their type."""


@pytest.fixture(params=VERSIONS)
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Copy:
    return Copy(Told.read(request.param), tmp_path)


@pytest.fixture
def receiver() -> Iterator[str]:
    with running_receiver() as url:
        yield url


def eventually(check: Callable[[], Any]) -> None:
    """Repeat a check until it passes. Fails after LONGEST_WAIT."""
    end = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            check()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def assert_ended(opened: Opened, expected: Ends) -> None:
    bodies = {name: opened.operation(name).body for name in expected}
    results = {name: body["resultInfo"] or {"code": 0, "subcode": 0} for name, body in bodies.items()}
    assert {
        name: (body["status"], results[name]["code"], results[name]["subcode"], body["attempt"])
        for name, body in bodies.items()
    } == expected


def assert_verified(opened: Opened, told: Told) -> None:
    """All operations are still stored, and each is in the sets of its stage."""
    verified = opened.tracker("doctor", "--verify")
    assert (verified["operations"], verified["faults"]) == (told.operations, [])


def assert_spool_written(opened: Opened, copy: Copy) -> None:
    """The outcomes that the killed worker left in the spool are in the records, and the spool is empty."""
    assert [line["answer"] for line in opened.events("spooled_outcome")] == ["OK"] * len(SPOOLED)
    assert list(copy.spool.iterdir()) == []
    answers = [opened.operation(name).body.get("answer") for name in SPOOLED]
    assert answers == ["of attempt 1", "of attempt 1", "of attempt 1", None], "the last outcome is a retry"


def assert_one_after_another(opened: Opened, *names: str) -> None:
    for before, after in pairwise(opened.operation(name).body for name in names):
        assert before["completedDateTime"] <= after["startedDateTime"]


def assert_unchanged(opened: Opened, told: Told) -> None:
    """The API answers as before about operations that had ended before the kill."""
    others = {told.created[name]["path"] for names in STAGES.values() for name in names}
    paths = {created["path"] for created in told.created.values()} - others
    answers = [(question, answer) for question, answer in told.answers if question.path in paths]
    assert len(answers) >= 30
    for question, answer in answers:
        assert opened.ask(question).essence == answer.essence, question


def test_this_version_answers_as_the_version_that_stored_the_data(copy: Copy) -> None:
    copy.begin(after=0)
    told = copy.told
    with copy.opened("--workers", "0") as opened:
        for question, answer in told.answers:
            assert opened.ask(question).essence == answer.essence, question
        for name in ("failed-raised", "run-lost"):
            why = opened.tracker("why", told.created[name]["id"])
            del why["reasons"]  # they depend on the time
            del why["suspected"]  # later versions count it
            assert why == told.why[name]
        assert_verified(opened, told)


def test_operations_that_had_not_ended_end_as_their_policy_says(copy: Copy, receiver: str) -> None:
    copy.begin(after=MINUTE)
    told = copy.told
    with copy.opened("--workers", "2", TRACKER_URL_HANDLERS=f"#stored.remote={receiver}") as opened:
        eventually(lambda: assert_spool_written(opened, copy))
        opened.let_sweep()
        eventually(lambda: assert_ended(opened, AT_ONCE))
        assert_one_after_another(opened, "run-serial", "park-serial", "park-serial-next")
        assert opened.tracker("why", "run-deleted")["stage"] == "tombstone"
        assert opened.operation("run-patched").body["note"] == {"is": "patched"}

        opened.advance(3 * HOUR)
        eventually(lambda: assert_ended(opened, AFTER_HOURS))
        assert opened.operation("delay-url").body["result"] == {"reversed": "yawa raf"}
        opened.advance(DAY)
        eventually(lambda: assert_ended(opened, AFTER_A_DAY))

        for name in CANCELED_BY_THE_TEST:
            assert opened.operation(name).body["status"] == "NotStarted"
            opened.ask(Question(f"{told.created[name]['path']}/cancel", method="POST"))
        assert_ended(opened, CANCELED_BY_THE_TEST)
        assert_unchanged(opened, told)
        assert_verified(opened, told)
        assert opened.errors() == []


def test_a_worker_of_rq_itself_runs_a_ticket_of_the_version_that_stored_the_data(copy: Copy) -> None:
    copy.begin(after=MINUTE)
    with copy.opened("--workers", "0") as opened:
        options = ("--job-class", "workers.OperationJob", "--serializer", "json")
        command = (sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet", *options)
        words = (*command, "--url", opened.redis_url, "operations.high")
        subprocess.run(words, env=opened.environment, check=True, timeout=LONGEST_WAIT)
        assert_ended(opened, {"queue-high": AT_ONCE["queue-high"]})
