"""The house's rules, as tests: layers, sizes, documents that say what the code does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker.arrows import ARROWS, Arrow
from tracker.config import BUILT_IN_TYPES, Settings
from tracker.keys import Keys
from tracker.model import Stage

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "tracker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
CORE = [
    *("errors", "durations", "jsons", "model", "policies", "arrows", "lifecycle", "outage", "steps", "config", "types"),
    *("signing", "answers", "urls", "log", "keys", "queue", "pipeline", "scripts", "codec"),
    *("connection", "fitness", "findings", "drafts", "once", "preconditions", "patches", "processes"),
    *("background", "verdicts", "creates", "store", "roster", "query", "plans", "reads", "calls", "subscription"),
    *("feed", "events", "streams", "pace", "embedded", "sweeper", "places", "verify", "diagnosis", "service"),
]
LAYER = {f"tracker.{name}": number for number, name in enumerate(CORE)}
"""A module of the core may import only from modules before it; above them stand api, cli and workers."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Our own modules that a file imports, at any place."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imported(path: Path, prefix: str) -> set[str]:
    return {name for name in imports(path) if name == prefix or name.startswith(f"{prefix}.")}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_imports_from_a_later_layer(path: Path) -> None:
    name = name_of(path)
    if name.startswith("tracker"):
        assert not imported(path, "workers"), "tracker names workers by a string only"
    if not name.startswith("tracker.cli"):
        assert not imported(path, "tracker.cli")
    if not name.startswith(("tracker.api", "tracker.cli")):
        assert not imported(path, "tracker.api")
    if name in LAYER:
        later = {other for other in imports(path) if other in LAYER and LAYER[other] >= LAYER[name]}
        assert not later, f"{name} imports {later}"


def test_every_module_of_the_core_has_its_layer() -> None:
    modules = {name_of(path) for path in (ROOT / "tracker").glob("*.py")} - {"tracker"}
    assert modules == set(LAYER)


def test_only_the_settings_read_the_environment() -> None:
    readers = {name_of(path) for path in SOURCES if re.search(r"os\.(environ|getenv)", path.read_text())}
    assert readers == {"tracker.config", "tracker.processes"}, "processes hands the environment on to children"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_nine_of_ten_functions_are_shorter_than_30_lines() -> None:
    functions = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 30]
    assert len(long) <= len(functions) / 10, long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_promised_for_later(path: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK|for now)\b", path.read_text())


def test_every_setting_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, info in Settings.model_fields.items():
        variable = info.validation_alias if isinstance(info.validation_alias, str) else f"TRACKER_{name.upper()}"
        assert f"`{variable}`" in readme, variable


def test_every_key_is_on_the_page_of_keys() -> None:
    page = (ROOT / "tracker" / "keys.py").read_text()
    keys = Keys("<p>", "<r>")
    for name in vars(keys).values():
        if name.startswith(("<p>:", "<r>:")):
            assert name in page, name


def test_the_architecture_page_draws_every_arrow_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+) : (\w+)", page, re.MULTILINE))
    table = set()
    for arrow, (sources, targets) in ARROWS.items():
        for source in sources or {"[*]"}:
            for target in targets or {"[*]"}:
                if arrow is Arrow.HIDE and (source is Stage.RUNNING) != (target is Stage.RUNNING):
                    continue  # what runs lives on; what has ended is buried
                if arrow is Arrow.PATCH and source is not target:
                    continue  # the stage stays
                table.add((str(source), str(target), str(arrow)))
    assert drawn == table


def test_the_built_in_types_exist() -> None:
    for module in BUILT_IN_TYPES:
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists()
