"""The output of handlers beside a log for people."""

import io
import sys

import pytest

from tests.support.hostile_texts import HOSTILE, OBEYED
from tracker.config import Settings
from tracker.log import configure
from workers import host_output
from workers.host_output import INDENT, HandlerOutput


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_print_forges_a_line_or_moves_the_cursor(text: str) -> None:
    raw = io.BytesIO()
    output = HandlerOutput(io.TextIOWrapper(raw, encoding="utf-8"))
    print(text, text, sep="\n", file=output)
    print(text, end="", file=output)
    print(text, file=output, flush=True)
    output.writelines([text, "\n"])
    output.flush()
    written = raw.getvalue().decode()
    assert not OBEYED.search(written)
    assert all(line.startswith(INDENT) for line in written.split("\n")[:-1])


def test_a_line_that_is_printed_in_parts_is_one_line() -> None:
    raw = io.BytesIO()
    output = HandlerOutput(io.TextIOWrapper(raw, encoding="utf-8"))
    for part in ("one", "", " two\t", "three\n", "\n", "four"):
        assert output.write(part) == len(part)
    output.flush()
    assert raw.getvalue().decode() == "    one two\tthree\n    \n    four"


@pytest.mark.parametrize(("form", "is_set_off"), [("human", True), ("json", False)])
def test_output_is_set_off_from_a_log_for_people_only(
    form: str, is_set_off: bool, logging_as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logging_as_before is None
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    configure(Settings(log_format=form))
    host_output.set_off()
    assert [isinstance(stream, HandlerOutput) for stream in (sys.stdout, sys.stderr)] == [is_set_off] * 2
