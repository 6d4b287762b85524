"""Exit codes, the error that ends a command, and functions that print: what all commands share.

A text that is printed may come from another client or from a handler. It must not move the terminal's cursor, and must
not look like a line of ours. So every text passes `tracker.visible_text`.
"""

import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import typer

from tracker.errors import ConfigurationError
from tracker.visible_text import visible, visible_json

Json = dict[str, Any]

UNWRAPPED_WIDTH = 10_000
"""The width of a table, in characters, if the output is no terminal. A program reads one row per line."""


class Exit(IntEnum):
    """The exit codes of `tracker`, as its help lists them."""

    OK = 0
    FAILED = 1
    USAGE = ConfigurationError.exit_code
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMED_OUT = 6


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "the operation failed, or a check of `tracker doctor` failed",
    Exit.USAGE: "wrong usage or configuration",
    Exit.UNREACHABLE: "the server or Redis cannot be reached",
    Exit.NOT_FOUND: "the operation does not exist, was deleted or has expired",
    Exit.REFUSED: "the server refused the request",
    Exit.TIMED_OUT: "timed out waiting",
}


class CommandFailed(Exception):
    """Ends the command with one line on standard error and an exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class OutputFormat(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


_NO_READER = (errno.EPIPE, errno.EIO)
"""The errors of a write to a pipe that nobody reads any more, and to a terminal that was closed."""

Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print the result.")]


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else, to standard output."""
    typer.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    r"""Print rows under a header. Text in cells is never read as markup. Long cells are wrapped on a terminal only.

    A line end in a cell is shown as `\n`, so that a row is one line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else UNWRAPPED_WIDTH).print(table)


def print_line(text: str, *, err: bool = False) -> None:
    """Print a line of a service that runs on, or a line beside the result. A line that cannot be written is lost.

    After the reader of the stream is gone, the stream leads to the null device. Otherwise Python would try to write the
    rest of its buffer again when the process ends, and would end it with exit code 120.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        typer.echo(text, file=stream)
    except OSError as error:
        if error.errno in _NO_READER:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def note(text: str) -> None:
    """Print a text to standard error, beside the result."""
    print_line(visible(text), err=True)
