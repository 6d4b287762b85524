"""Visible forms of characters that a terminal, or whoever reads lines of a log, would obey or not see.

Clients and handlers choose many texts that people read: ids, calls, types, client contexts, messages of exceptions.
Control characters in such a text could move the cursor, change colours or the window's title, or begin a line that
looks like one of ours. Marks of writing direction (Unicode Standard Annex 9) could show a text in another order. Every
text that others chose passes one of these functions before it is printed or logged.
"""

import re
from typing import Final

_SPACES: Final = r"\t\n"
_OTHER_CONTROLS: Final = r"\x00-\x08\x0b-\x1f"
_UNSEEN: Final = (
    r"\x7f-\x9f"  # DEL and the C1 controls, NEL among them, which ends a line
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    r"\u2028\u2029"  # line and paragraph separators
    r"\ud800-\udfff"  # lone surrogates, which no encoding can write
)
_IN_LINE: Final = re.compile(f"[{_SPACES}{_OTHER_CONTROLS}{_UNSEEN}]")
_IN_LINES: Final = re.compile(f"[{_OTHER_CONTROLS}{_UNSEEN}]")
_IN_JSON: Final = re.compile(f"[{_UNSEEN}]")
_SHORT: Final = {"\t": r"\t", "\n": r"\n"}


def visible(text: str) -> str:
    r"""The text on one line: `\n`, `\x1b` or `\u202e` stands for a character that nobody would see."""
    return _IN_LINE.sub(_escape, text)


def visible_lines(text: str, *, indent: str = "") -> str:
    r"""The text with its own line ends and tabs, and `visible` in all else. Each line begins with `indent`.

    With an indent, no line of the text can be taken for a line of the log, which begins at the margin.
    """
    shown = _IN_LINES.sub(_escape, text)
    return indent + shown.replace("\n", f"\n{indent}") if indent else shown


def visible_json(text: str) -> str:
    r"""A JSON text of the same value, with `\u202e` for a character that nobody would see.

    Encoders escape the characters below U+0020 by themselves. All others that are escaped here occur in strings only.
    """
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\u{code:04x}" if character > "\xff" else f"\\x{code:02x}")
