"""Everything that the command line prints: texts of other clients, of handlers and of servers move no cursor."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.hostile_texts import HARMLESS, HOSTILE, OBEYED
from tracker.cli import main, operations
from tracker.cli.dev_stack import _printer
from tracker.cli.output import CommandFailed, Exit, OutputFormat, note, print_json, print_table
from tracker.cli.serve_processes import _Printer
from tracker.errors import ConfigurationError

EVERY_TEXT = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def a_table(text: str) -> None:
    print_table(("id", "message"), [(text, text)])


def an_operation(text: str) -> None:
    operations._print_operation({"clientContext": text, text: {"message": text}}, OutputFormat.TABLE)


def a_list(text: str) -> None:
    result = {"code": 500, "subcode": 1, "message": text}
    row = {"id": text, "@odata.type": text, "status": text, "clientContext": text, "resultInfo": result}
    print_table("abcdefg", [operations._row(row)])


def a_note(text: str) -> None:
    note(text)


def a_line_of_a_child(text: str) -> None:
    for line in text.split("\n"):
        _printer()("worker", line)


def a_line_of_a_process(text: str) -> None:
    for line in text.split("\n"):
        _Printer(2)("api-1", line)


@EVERY_TEXT
@pytest.mark.parametrize(
    "write",
    [a_table, an_operation, a_list, a_note, a_line_of_a_child, a_line_of_a_process],
    ids=lambda write: write.__name__,
)
def test_what_others_wrote_is_printed_and_not_obeyed(
    text: str, write: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    written = "".join(capsys.readouterr())
    assert not OBEYED.search(written)
    assert written.encode()
    lines = written.splitlines()
    if write in {a_table, a_list}:
        assert len(lines) == 2, "a row is one line"
    if write is a_note:
        assert len(lines) == 1
    if write is a_line_of_a_child:
        assert all(line.startswith("worker | ") for line in lines)


@EVERY_TEXT
def test_json_for_programs_is_valid_and_not_obeyed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"value": [{"clientContext": text}], text: HARMLESS})
    written = capsys.readouterr().out
    assert not OBEYED.search(written)
    assert json.loads(written) == {"value": [{"clientContext": text}], text: HARMLESS}
    assert HARMLESS in written


@EVERY_TEXT
@pytest.mark.parametrize("error", [partial(CommandFailed, Exit.REFUSED), ConfigurationError])
def test_an_error_that_quotes_others_is_one_line(
    text: str,
    error: Callable[[str], Exception],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error(text)

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit):
        main.main()
    written = capsys.readouterr().err
    assert written.startswith("tracker: ")
    assert not OBEYED.search(written)
    assert len(written.splitlines()) == 1


@EVERY_TEXT
def test_an_error_that_nobody_expected_is_a_traceback_that_is_not_obeyed(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError(text)

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == Exit.FAILED
    written = capsys.readouterr().err
    assert written.startswith("Traceback (most recent call last):\n")
    assert not OBEYED.search(written)


@EVERY_TEXT
def test_the_progress_of_an_operation_is_shown_and_not_obeyed(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, **fields: shown.append(fields))
    with operations._progress_bar() as show:
        show({"status": text, "statusDetail": text, "percentComplete": 3})
    assert capsys.readouterr().out == ""
    assert shown
    assert not OBEYED.search(str(shown[0]["status"]) + str(shown[0]["detail"]))


def test_a_table_does_not_obey_what_other_clients_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("clientContext",), [["\x1b]0;title\x07red\x9b31m\rover"]])
    shown = capsys.readouterr().out
    assert "\\x1b]0;title\\x07red\\x9b31m\\x0dover" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
