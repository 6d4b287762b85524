"""Tests of other modules that a module runs again, with fixtures of its own folder."""

from importlib import import_module
from typing import Any

import pytest


def borrowed(*modules: str) -> dict[str, Any]:
    """The tests and the fixtures of modules, by name. Two modules may not have the same name for different things."""
    found: dict[str, Any] = {}
    for module in modules:
        about = vars(import_module(module))
        for name, value in about.items():
            is_test = name.startswith("test_") and callable(value)
            if is_test or type(value).__name__ == "FixtureFunctionDefinition":
                assert name not in found or found[name] is value, f"{module} has another {name}"
                found[name] = _marked(value, about.get("pytestmark")) if is_test else value
    return found


def _marked(test: Any, marks: Any) -> Any:
    """The test with the marks of its module."""
    for mark in [marks] if isinstance(marks, pytest.MarkDecorator) else marks or []:
        if mark.mark not in getattr(test, "pytestmark", []):
            test = mark(test)
    return test
