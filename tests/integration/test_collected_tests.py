"""Which tests a file has depends on nothing but the file."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from tests.support.waiting import LONGEST_WAIT

OTHERS = ("tests/integration/workers", "tests/e2e")
"""Tests that import the modules of many operation types."""
FILES = ("tests/unit/api/openapi/test_csdl.py", "tests/integration/workers/test_executor.py")
"""Tests that have parameters for each operation type, or types of their own."""


def collected(*paths: str) -> set[str]:
    """The ids of the tests that pytest finds when it is given these paths in this order."""
    words = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    listed = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=4 * LONGEST_WAIT, check=True
    )
    return {line for line in listed.stdout.splitlines() if "::" in line}


@pytest.fixture(scope="module")
def beside_others() -> set[str]:
    return collected(*OTHERS, *FILES)


@pytest.mark.parametrize("path", FILES)
def test_a_file_has_the_same_tests_alone_and_beside_others(beside_others: set[str], path: str) -> None:
    alone = collected(path)
    assert alone
    assert alone == {test for test in beside_others if test.startswith(path)}
