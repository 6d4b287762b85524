"""The words of `$filter` and `$orderby`, with the positions that error messages name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tracker.errors import Invalid


class Form(Enum):
    """What a token is."""

    STRING = "string"
    """`'…'`, with `''` for a quote."""
    TYPED = "typed literal"
    """`namespace.type'…'`."""
    NUMBER = "number"
    """Also dates, times and GUIDs: whatever starts with a digit or a sign before one."""
    WORD = "word"
    """A member path, an operator, a function's name or a constant."""
    PUNCTUATION = "punctuation"
    """A parenthesis, a comma, and what only forms that are not served have: a colon, a sign, a slash."""
    END = "end"
    """The end of the text."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `position` counts characters from 1."""

    form: Form
    text: str
    position: int
    type: str = ""

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, whatever its case."""
        return self.form is Form.WORD and self.text.lower() in words

    def is_punctuation(self, text: str) -> bool:
        """Whether it is this punctuation."""
        return self.form is Form.PUNCTUATION and self.text == text


_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+)
    | (?P<type>[A-Za-z_][\w.]*)?'(?P<quoted>(?:[^']|'')*+)(?P<end>')?
    | (?P<number>[+-]?[0-9][\w.:+-]*)
    | (?P<word>[$@A-Za-z_][\w.@$/-]*)
    | (?P<punctuation>[(),:/-])""",
    re.VERBOSE,
)


def tokens(text: str, option: str) -> Iterator[Token]:
    """Cut an option's value into tokens, closed by an END. Raises Invalid for a letter that starts none."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise malformed(option, f"unexpected {text[place]!r}", place + 1)
        if match["space"] is None:
            yield _token(match, option)
        place = match.end()
    yield Token(Form.END, "", place + 1)


def malformed(option: str, what: str, position: int) -> Invalid:
    """The error for a text that is not as OData has it."""
    return Invalid(f"{option}: {what} at position {position}.", target=option)


def _token(match: re.Match[str], option: str) -> Token:
    position = match.start() + 1
    if match["quoted"] is not None:
        if match["end"] is None:
            raise malformed(option, "a string without its closing quote", position)
        value = match["quoted"].replace("''", "'")
        return Token(Form.TYPED if match["type"] else Form.STRING, value, position, match["type"] or "")
    form = next(form for form in (Form.NUMBER, Form.WORD, Form.PUNCTUATION) if match[form.value] is not None)
    return Token(form, match[0], position)
