"""SECURITY.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "SECURITY.md").read_text()
THREATS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Threats")[2].splitlines()
    if line.startswith("| ") and not line.startswith(("| threat |", "|---"))
]


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0][:60])
def test_each_threat_has_a_test_that_exists(row: list[str]) -> None:
    threat, stops, proof = row
    assert threat
    assert stops
    tests = re.findall(r"`(tests/[^`]+)`", proof)
    assert tests, "name the test, as `tests/…/test_file.py::test_name`"
    for test in tests:
        file, _, name = test.partition("::")
        names = [
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        assert any(found.startswith(name) for found in names), test


def test_the_page_has_threats_and_says_how_to_report() -> None:
    assert len(THREATS) >= 10
    assert "private security advisory" in PAGE
