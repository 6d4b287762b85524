"""Tokens of `$filter` and `$orderby`, with their positions for error messages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tracker.errors import Invalid


class Form(Enum):
    """Kinds of tokens."""

    STRING = "string"
    """`'…'`, in which `''` stands for a quote."""
    TYPED = "typed literal"
    """`namespace.type'…'`."""
    NUMBER = "number"
    """A text that starts with a digit, or with a sign and a digit: also a date, a time or a GUID."""
    WORD = "word"
    """A member path, an operator, a function's name or a constant."""
    PUNCTUATION = "punctuation"
    """A parenthesis or a comma; or a colon, minus or slash, which only unsupported forms have."""
    END = "end"
    """The end of the text."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token. `position` counts characters from 1."""

    form: Form
    text: str
    position: int
    type: str = ""

    def is_word(self, *words: str) -> bool:
        """Whether the token is one of these words, in upper or lower case."""
        return self.form is Form.WORD and self.text.lower() in words

    def is_punctuation(self, text: str) -> bool:
        """Whether the token is this punctuation."""
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
    """Split an option's value into tokens, with an END as the last. Raises Invalid where no token can start."""
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            raise malformed(option, f"unexpected {text[offset]!r}", offset + 1)
        if match["space"] is None:
            yield _token(match, option)
        offset = match.end()
    yield Token(Form.END, "", offset + 1)


def malformed(option: str, fault: str, position: int) -> Invalid:
    """The error for a text that breaks the grammar of OData."""
    return Invalid(f"{option}: {fault} at position {position}.", target=option)


def _token(match: re.Match[str], option: str) -> Token:
    position = match.start() + 1
    if match["quoted"] is not None:
        if match["end"] is None:
            raise malformed(option, "a string without its closing quote", position)
        value = match["quoted"].replace("''", "'")
        return Token(Form.TYPED if match["type"] else Form.STRING, value, position, match["type"] or "")
    form = next(form for form in (Form.NUMBER, Form.WORD, Form.PUNCTUATION) if match[form.value] is not None)
    return Token(form, match[0], position)
