"""docs/configuration.md and `--help` say what the settings are."""

import re
import runpy
from pathlib import Path

import pytest
import typer.main

from tracker.cli.main import app
from tracker.config import Settings
from tracker.settings.kinds import Shown

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "configuration.md").read_text()
PYTHON = ("tracker", "workers", "tests", "examples", "benchmarks", "chaos", "conformance", "deploy")
OPTIONS = {
    ("dev", "host"): "host",
    ("dev", "port"): "port",
    ("dev", "redis_url"): "redis_url",
    ("dev", "workers"): "worker_processes",
    ("dev", "types"): "types",
    ("serve", "host"): "host",
    ("serve", "port"): "port",
    ("serve", "auth"): "auth",
    ("serve", "processes"): "api_processes",
    ("worker", "concurrency"): "worker_concurrency",
    ("worker", "processes"): "worker_processes",
    ("worker", "drain_seconds"): "drain_seconds",
    ("doctor", "redis_url"): "redis_url",
    ("why", "redis_url"): "redis_url",
}
"""Options that stand for a setting, by their command and the name of their parameter."""


def test_the_page_has_the_table_that_is_made_from_the_settings() -> None:
    tool = runpy.run_path(str(ROOT / "docs" / "tools" / "settings_table.py"))
    assert tool["page"](PAGE) == PAGE, "make configuration writes it"


def test_every_setting_has_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert re.fullmatch(r"[A-Z][^|\n]*\.", field.description or ""), name


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_help_says_of_an_option_what_the_page_says_of_the_setting(command: str, option: str) -> None:
    field = Settings.model_fields[OPTIONS[command, option]]
    (parameter,) = (each for each in _parameters(command) if each.name == option)
    told = parameter.help or ""
    assert told.startswith(field.description or "nothing")
    for shown in (extra for extra in field.metadata if isinstance(extra, Shown)):
        assert shown.unit in told
        assert shown.default in told


@pytest.mark.parametrize("command", ["dev", "serve", "worker"])
def test_every_option_of_the_service_is_compared_or_is_no_setting(command: str) -> None:
    names = {str(parameter.name) for parameter in _parameters(command)}
    compared = {option for of, option in OPTIONS if of == command}
    assert names - compared <= {"data_dir", "redis_port", "token", "share_port", "help"}


def test_every_variable_that_is_read_anywhere_is_on_the_page() -> None:
    texts = [path.read_text() for folder in PYTHON for path in (ROOT / folder).rglob("*.py")]
    found = re.findall(r"""environ(?:\.get)?[\[(]\s*["']([A-Z_]+)["']|envvar="([A-Z_]+)\"""", "\n".join(texts))
    names = {name for pair in found for name in pair if name}
    names |= set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert {"REDIS_URL", "TRACKER_URL", "TRACKER_TYPES_DIR", "CONTOSO_FILES_DIR"} <= names
    assert {name for name in names if f"`{name}`" not in PAGE} == {"PATH", "PYTHONPATH"}, "not ours"


def _parameters(command: str) -> list[typer.core.TyperOption]:
    commands: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [each for each in commands[command].params if isinstance(each, typer.core.TyperOption)]
