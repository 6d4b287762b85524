"""What `pyproject.toml` and the files of pins promise."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)
PINS = {"site": "docs", "conformance": "conformance", "profile": "bench"}
"""The constraints file of a dependency group; that of `bench-…` is `bench`, every other's `base`."""


def dependencies() -> Iterator[tuple[str, str]]:
    """Every direct dependency as it is written, with the constraints file that pins it."""
    yield from ((text, "base") for text in PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        yield from ((text, "base") for text in extra)
    for group, members in PROJECT["dependency-groups"].items():
        pins = PINS.get(group, "bench" if group.startswith("bench-") else "base")
        yield from ((text, pins) for text in members if isinstance(text, str))


def name_of(requirement: str) -> str:
    """The package's name, as PyPI compares names."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def pinned(name: str) -> set[str]:
    text = (ROOT / "constraints" / f"{name}.txt").read_text()
    return {name_of(line) for line in text.splitlines() if "==" in line}


@pytest.mark.parametrize("text", sorted({text for text, _ in dependencies()}))
def test_the_line_before_a_dependency_says_why_it_is_this_one(text: str) -> None:
    lines = [line.strip() for line in PYPROJECT.splitlines()]
    places = [number for number, line in enumerate(lines) if line == f'"{text}",']
    assert places, "each dependency has a line of its own"
    for number in places:
        assert re.fullmatch(r"# [A-Z].{20,}\.", lines[number - 1]), lines[number - 1]


@pytest.mark.parametrize(("text", "file"), sorted(set(dependencies())))
def test_a_dependency_is_pinned(text: str, file: str) -> None:
    shared = pinned("base") if file == "conformance" else set()
    assert name_of(text) in pinned(file) | shared


def test_only_the_extra_embedded_brings_a_server() -> None:
    project = PROJECT["project"]
    assert not any("valkey" in text for text in project["dependencies"])
    assert [name for name, texts in project["optional-dependencies"].items() if "valkey" in "".join(texts)] == [
        "embedded"
    ]
