"""Texts that clients and handlers may choose, and that no terminal and no log may obey."""

import re

HOSTILE = {
    "a line of a log": "x\n12:00:00.000000 [info     ] operation_completed    operation_id=forged",
    "a line of a terminal": "x\r12:00:00.000000 [info     ] forged",
    "colours": "\x1b[31mred\x1b[0m",
    "a title": "\x1b]0;title\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "C1": "\x9b31mred\x9c",
    "a next line": "x\x85forged",
    "other line ends": "x\x0bforged\x0cforged\x1cforged\x1dforged\x1eforged",
    "delete and backspace": "secret\x7f\x08\x00",
    "an override": "user \u202etxt.exe\u202c",
    "isolates": "\u2066\u2067\u2068x\u2069",
    "marks": "\u200e\u200f\u061c",
    "embeddings": "\u202a\u202b\u202dx",
    "separators": "x\u2028forged\u2029forged",
    "lone surrogates": "\ud800x\udfff",
}
"""By name: each text as others chose it."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""A character that a terminal or a reader of lines obeys, other than tab and line end."""
HARMLESS = "Grüße, 日本語, \U0001f469\u200d\U0001f680, a = 'b'"
"""A text of which every character is shown as it is."""
