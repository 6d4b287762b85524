"""The rules of the code, a test for each: imports, sizes, and documents that say what the code does."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tracker.config import BUILT_IN_TYPES, Settings
from tracker.domain.transitions import TRANSITIONS, Stage, Transition
from tracker.runtime.dev_valkey import start_server
from tracker.store.keys import Keys

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "tracker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
GROUNDS = {"config", "settings", "errors", "durations", "json_codec", "visible_text", "log_output"}
MAY_IMPORT = {
    **dict.fromkeys(GROUNDS, GROUNDS),
    "domain": GROUNDS,
    "runtime": GROUNDS,
    "log": GROUNDS | {"domain"},
    "bodies": GROUNDS | {"domain"},
    "store": GROUNDS | {"domain", "log", "bodies"},
    **{
        package: GROUNDS | {"domain", "log", "bodies", "store", "runtime"}
        for package in ("listing", "events", "maintenance", "url_handlers")
    },
}
"""What each package or module of `tracker` may import from `tracker`, beside itself."""
_CORE = set(MAY_IMPORT)
MAY_IMPORT["retry_after"] = set(_CORE)
MAY_IMPORT["service"] = _CORE | {"retry_after"}
MAY_IMPORT["api"] = _CORE | {"retry_after", "service"}
MAY_IMPORT["cli"] = _CORE | {"retry_after", "service", "api"}
MAY_IMPORT["workers"] = set(_CORE)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in SOURCES}


@cache
def syntax_nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path: Path) -> set[str]:
    """Our modules that a file imports, at any place in it: within functions and under TYPE_CHECKING, too."""
    names: set[str] = set()
    for node in syntax_nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                names.add(member if member in MODULES else node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names & MODULES


def package_of(module: str) -> str:
    """The row of the table: the first part below `tracker`, or `workers`."""
    root, *rest = module.split(".")
    return root if root == "workers" or not rest else rest[0]


def imported_modules() -> Iterator[tuple[str, str]]:
    """Every import of a module of ours by another, as (who imports, what is imported)."""
    for path in SOURCES:
        for name in imports(path):
            yield name_of(path), name


def test_no_package_imports_against_the_direction() -> None:
    against = [
        f"{importer} imports {imported}"
        for importer, imported in imported_modules()
        if importer != "tracker" and imported != "tracker"
        if package_of(imported) not in MAY_IMPORT[package_of(importer)] | {package_of(importer)}
    ]
    print(f"imports against the direction: {len(against)}")
    assert not against


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name_of(path): set() for path in SOURCES}
    for importer, imported in imported_modules():
        if imported != "tracker":
            graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
        circle: list[str] = []
    except CycleError as error:
        circle = error.args[1]
    print(f"modules: {len(graph)}; in a circle: {circle or 0}")
    assert not circle


def test_the_rooms_of_the_api_do_not_import_what_puts_them_together() -> None:
    against = [
        f"{importer} imports {imported}"
        for importer, imported in imported_modules()
        if importer.count(".") == 3 and importer.startswith("tracker.api.")
        if imported in {"tracker.api.routes", "tracker.api.app"}
    ]
    assert not against


def test_odata_texts_are_parsed_without_the_rest_of_the_api() -> None:
    against = [
        f"{importer} imports {imported}"
        for importer, imported in imported_modules()
        if importer.startswith("tracker.api.odata") and imported.startswith("tracker.api")
        if not imported.startswith("tracker.api.odata") and imported != "tracker.api.headers"
    ]
    assert not against


def test_only_the_settings_read_the_environment() -> None:
    readers = {name_of(path) for path in SOURCES if re.search(r"os\.(environ|getenv)", path.read_text())}
    hand_it_on = {"tracker.runtime.processes", "workers.process_state"}  # to children, and to the next function
    assert readers == {"tracker.config"} | hand_it_on


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > 300}


def test_nine_of_ten_functions_are_shorter_than_30_lines() -> None:
    functions = [
        node
        for path in SOURCES
        for node in syntax_nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 30]
    assert len(long) <= len(functions) / 10, long


def test_nothing_is_promised_for_later() -> None:
    promises = {name_of(path): re.findall(r"\b(?:TODO|FIXME|XXX|HACK|for now)\b", path.read_text()) for path in SOURCES}
    assert not {name: words for name, words in promises.items() if words}


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    variables = [
        info.validation_alias if isinstance(info.validation_alias, str) else f"TRACKER_{name.upper()}"
        for name, info in Settings.model_fields.items()
    ]
    assert not [variable for variable in variables if f"`{variable}`" not in page]


def test_every_key_is_on_the_page_of_keys() -> None:
    page = (ROOT / "tracker" / "store" / "keys.py").read_text()
    names = [name for name in vars(Keys("<p>", "<r>")).values() if name.startswith(("<p>:", "<r>:"))]
    assert not [name for name in names if name not in page]


def test_the_architecture_page_lists_every_package_and_module_of_the_first_level() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = page.split("```")[1].partition("workers/")[0]
    listed = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ") and line[2] != " "}
    there = {
        path.name for path in (ROOT / "tracker").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert listed == there


def test_the_architecture_page_draws_every_transition_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+) : (\w+)", page, re.MULTILINE))
    table = set()
    for transition, (sources, targets) in TRANSITIONS.items():
        for source in sources or {"[*]"}:
            for target in targets or {"[*]"}:
                if transition is Transition.HIDE and (source is Stage.RUNNING) != (target is Stage.RUNNING):
                    continue  # what runs lives on; what has ended is buried
                if transition is Transition.PATCH and source is not target:
                    continue  # the stage stays
                table.add((str(source), str(target), str(transition)))
    assert drawn == table


def test_the_built_in_types_exist() -> None:
    files = {module: (ROOT / Path(*module.split("."))).with_suffix(".py") for module in BUILT_IN_TYPES}
    assert not [module for module, path in files.items() if not path.exists()]


def test_a_unit_test_cannot_start_a_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs in tests/integration"):
        start_server(tmp_path)
    with pytest.raises(pytest.fail.Exception, match="belongs in tests/integration"):
        request.getfixturevalue("settings")
