"""Visible forms of control characters, and of marks that change how a text is read."""

import json

import pytest

from tests.support.hostile_texts import HARMLESS, HOSTILE, OBEYED
from tracker.visible_text import visible, visible_json, visible_lines

EVERY_TEXT = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@EVERY_TEXT
def test_a_hostile_text_becomes_one_line_that_can_be_written(text: str) -> None:
    shown = visible(text)
    assert not OBEYED.search(shown)
    assert len(shown.splitlines()) == 1
    assert visible(shown) == shown
    shown.encode()


@EVERY_TEXT
def test_lines_keep_their_ends_and_nothing_else(text: str) -> None:
    shown = visible_lines(f"one\t{text}\ntwo")
    assert not OBEYED.search(shown)
    assert shown.count("\n") == text.count("\n") + 1
    assert shown.startswith("one\t")


@EVERY_TEXT
def test_no_line_begins_at_the_margin_when_there_is_an_indent(text: str) -> None:
    assert all(line.startswith("  ") for line in visible_lines(f"{text}\n{text}", indent="  ").splitlines())


@EVERY_TEXT
def test_a_json_text_has_the_same_value_and_only_seen_characters(text: str) -> None:
    value = {text: [text, {"a": text}]}
    for encoded in (json.dumps(value, ensure_ascii=False), json.dumps(value, indent=2, ensure_ascii=False)):
        shown = visible_json(encoded)
        assert not OBEYED.search(shown)
        assert json.loads(shown) == value


@pytest.mark.parametrize(
    ("character", "shown"),
    [("\n", r"\n"), ("\t", r"\t"), ("\r", r"\x0d"), ("\x1b", r"\x1b"), ("\x9b", r"\x9b"), ("\u202e", r"\u202e")],
)
def test_an_escape_names_the_character(character: str, shown: str) -> None:
    assert visible(f"a{character}b") == f"a{shown}b"


def test_a_text_that_everybody_can_see_is_not_changed() -> None:
    assert visible(HARMLESS) == visible_lines(HARMLESS) == visible_json(HARMLESS) == HARMLESS
