"""Tests of other modules that a module runs again, with fixtures of its own folder."""

from importlib import import_module
from typing import Any


def borrowed(*modules: str) -> dict[str, Any]:
    """The tests and the fixtures of modules, by name. Two modules may not have the same name for different things."""
    found: dict[str, Any] = {}
    for module in modules:
        for name, value in vars(import_module(module)).items():
            is_test = name.startswith("test_") and callable(value)
            if is_test or type(value).__name__ == "FixtureFunctionDefinition":
                assert found.setdefault(name, value) is value, f"{module} has another {name}"
    return found
