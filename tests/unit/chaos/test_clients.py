"""The clients of the chaos harness record what the checker needs, and shift the clocks of processes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from chaos.clients import Answer, Ledger
from chaos.history import NOT_LISTED, Sight, read
from chaos.journal import ANSWERS, Journal
from tests.support.chaos_histories import done, saw
from tests.support.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[3]


def answer(asked: float, answered: float) -> Answer:
    return Answer(200, {}, "", asked, answered)


def resource(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "op", "status": status, "attempt": 1, "clientContext": None, "resultInfo": None, **more}


def test_answers_that_are_the_same_are_one_line_with_the_first_and_the_last_time(tmp_path: Path) -> None:
    ledger = Ledger(Journal(tmp_path / ANSWERS))
    ledger.accept("call", "op", 1.0, {"type": "#chaos.slow", "may_start": 0.5})
    result = {"code": 200, "subcode": 0, "message": "attempt 1"}
    ledger.see("call", "op", answer(1, 2), 200, resource("Running"))
    ledger.see("call", "op", answer(3, 4), 200, resource("Running", percentComplete=50))
    ledger.see("call", "op", answer(1.2, 1.8), 200, resource("Running"))
    assert ledger.open == ["call"]
    ledger.see("call", "op", answer(5, 6), 200, resource("Completed", resultInfo=result, completedDateTime="then"))
    assert not ledger.open
    ledger.see("call", "op", answer(7, 8), NOT_LISTED)
    ledger.close()
    told = read(tmp_path).operations["op"]
    assert told.sights == [saw(1.8, "Running", asked=3), done(6, asked=5), Sight(8, 7, NOT_LISTED)]
    assert ledger.counts == (1, 0)


def test_a_deleted_operation_is_not_waited_for(tmp_path: Path) -> None:
    ledger = Ledger(Journal(tmp_path / ANSWERS))
    ledger.accept("call", "op", 1.0, {"type": "#chaos.slow", "may_start": 0.5})
    ledger.ask("delete", "op", 2.0)
    assert read(tmp_path).operations["op"].delete_asked == 2.0
    ledger.delete("call", "op", 2.0, 3.0)
    assert not ledger.open
    assert read(tmp_path).operations["op"].deleted == 3.0


def test_a_shifted_process_has_another_wall_clock_and_the_same_monotonic_one() -> None:
    script = """
import datetime, time
from chaos.process import shift_clock
before = time.time(), time.time_ns(), datetime.datetime.now(datetime.UTC), time.monotonic()
shift_clock(-5)
after = time.time(), time.time_ns(), datetime.datetime.now(datetime.UTC), time.monotonic()
print(after[0] - before[0], (after[1] - before[1]) / 1e9, (after[2] - before[2]).total_seconds())
print(after[3] - before[3] - 5)
assert isinstance(before[2], datetime.datetime)
"""
    words = (sys.executable, "-c", script)
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_WAIT, check=True).stdout
    assert all(-5 <= float(word) < -3 for word in told.split()), told
