"""The table of settings in docs/configuration.md, made from `Settings` and from the options of the command line.

`make configuration` writes the table into the page. A test compares the page with what this module makes.
"""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin

import typer.main
from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from tracker.cli.main import app
from tracker.config import variables
from tracker.durations import LONGEST
from tracker.settings.kinds import Shown

PAGE = Path(__file__).parents[1] / "configuration.md"
BEGIN, END = "<!-- The table is made by `make configuration`. -->\n", "<!-- End of the table. -->"
KINDS = {bool: "`true` or `false`", int: "number", float: "number", str: "text", Path: "path", tuple: "list"}


class Row(NamedTuple):
    """One line of the table."""

    variable: str
    kind: str
    default: str
    meaning: str


def table() -> str:
    """Make the table: the settings in the order of their class, then what only the command line reads."""
    rows = [Row("variable", "value", "default", "meaning"), Row(*["---"] * 4)]
    rows += [setting(name, field) for name, field in variables().items()]
    rows += options()
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def setting(name: str, field: FieldInfo) -> Row:
    """Describe one field of `Settings`."""
    return Row(f"`{name}`", _kind(field) + _bounds(field), _default(field), field.description or "")


def options() -> Iterator[Row]:
    """Describe the variables that stand for an option of a command and are no settings."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]  # it is a group
        for option in command.params:
            if option.envvar and option.envvar not in variables():
                found.setdefault(option.envvar, (option, []))[1].append(f"`tracker {name}`")
    for variable, (option, commands) in found.items():
        meaning, _, default = option.help.partition(" Default: ")
        default = default.rstrip(".") or (f"`{option.default}`" if option.default else "none")
        yield Row(f"`{variable}`", "text", default, f"{meaning} Read by {', '.join(commands)}.")


def page(text: str) -> str:
    """Put the table into the text of the page."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _kind(field: FieldInfo) -> str:
    shown = _shown(field)
    if shown.unit:
        return shown.unit
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(annotation))
    if get_origin(annotation) is UnionType:
        annotation = get_args(annotation)[0]
    return KINDS[get_origin(annotation) or annotation]


def _bounds(field: FieldInfo) -> str:
    """Say between which values the number must be. The page says above the table how long the longest time is."""
    least = [f"at least {bound.ge}" for bound in field.metadata if isinstance(bound, Ge)]
    above = [f"more than {bound.gt}" for bound in field.metadata if isinstance(bound, Gt)]
    most = [f"at most {bound.le}" for bound in field.metadata if isinstance(bound, Le) and bound.le != LONGEST]
    bounds = " and ".join(least + above + most)
    return f", {bounds}" if bounds else ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if shown := _shown(field).default:
        return shown
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, float):
        value = f"{value:g}" if value != int(value) else int(value)
    return "none" if value in {None, ""} else f"`{value}`"


def _shown(field: FieldInfo) -> Shown:
    return next((extra for extra in field.metadata if isinstance(extra, Shown)), Shown())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
