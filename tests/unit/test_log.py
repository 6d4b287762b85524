"""The log: texts that clients and handlers chose forge no line, and move no cursor."""

import json
import logging
from collections.abc import Callable
from typing import NoReturn

import pytest
import structlog

from tests.support.hostile_texts import HARMLESS, HOSTILE, OBEYED
from tracker.config import Settings
from tracker.log import configure

Write = Callable[[str], None]


pytestmark = pytest.mark.usefixtures("logging_as_before")


class Chosen:
    """An object whose representation somebody else chose."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def a_field(text: str) -> None:
    structlog.get_logger().info("operation_started", operation_id=text, call_id=f"{text} and spaces")


def a_nested_field(text: str) -> None:
    structlog.get_logger().info("operation_started", types=[text], about={text: (text,)}, chosen=Chosen(text))


def a_name_of_a_field(text: str) -> None:
    structlog.get_logger().info("operation_started", **{text: 1})


def an_event(text: str) -> None:
    structlog.get_logger().info(text)


def a_message_of_another_library(text: str) -> None:
    logging.getLogger(f"their.{text}").warning("failed: %s", text)


def a_stack(text: str) -> None:
    structlog.get_logger().warning("loop_blocked", stack=f"  File x, line 1\n    {text}\n")


def a_traceback_of_a_handler(text: str) -> None:
    structlog.get_logger().warning("operation_failed", traceback=f"Traceback:\n  File x\nValueError: {text}\n")


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def an_exception(text: str) -> None:
    try:
        fail(text)
    except ValueError:
        structlog.get_logger().exception("request_failed", path=text)


def an_exception_of_another_library(text: str) -> None:
    try:
        fail(text)
    except ValueError:
        logging.getLogger("their").exception("failed: %s", text)


def a_chain_of_exceptions(text: str) -> None:
    try:
        try:
            fail(text)
        except ValueError as error:
            error.add_note(text)
            raise ExceptionGroup(text, [ValueError(text)]) from error
    except ExceptionGroup as group:
        structlog.get_logger().error("request_failed", exc_info=group)


EXITS: tuple[Write, ...] = (
    *(a_field, a_nested_field, a_name_of_a_field, an_event, a_message_of_another_library, a_stack),
    *(a_traceback_of_a_handler, an_exception, an_exception_of_another_library, a_chain_of_exceptions),
)
EVERY_EXIT = pytest.mark.parametrize("write", EXITS, ids=lambda write: write.__name__)
EVERY_TEXT = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@EVERY_EXIT
@EVERY_TEXT
def test_no_text_forges_a_line_for_people(text: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="human"))
    write(text)
    written = capsys.readouterr().err
    assert not OBEYED.search(written)
    first, *others = written.splitlines()
    assert first[:2].isdigit()
    assert all(line.startswith("    ") for line in others), "only a line of the log begins at the margin"


@EVERY_EXIT
@EVERY_TEXT
def test_no_text_leaves_its_line_of_json(text: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    write(text)
    written = capsys.readouterr().err
    assert not OBEYED.search(written)
    assert len(written.splitlines()) == 1
    assert json.loads(written)["event"]


def test_a_field_of_json_has_the_value_itself(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    for text in (*HOSTILE.values(), HARMLESS):
        a_field(text)
        assert json.loads(capsys.readouterr().err)["operation_id"] == text


def test_what_everybody_can_see_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="human"))
    structlog.get_logger().info("operation_started", operation_id="op-1", attempt=2, detail="two words", none=None)
    line = capsys.readouterr().err
    assert line.split(maxsplit=1)[1] == (
        "[info     ] operation_started      attempt=2 detail='two words' none=None operation_id=op-1\n"
    )
