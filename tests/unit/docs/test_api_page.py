"""docs/api.md and the code agree."""

import re
from pathlib import Path

import pytest

from tracker import errors
from tracker.api.actions import ACTIONS, UNSERVED
from tracker.api.dialects.google import Code
from tracker.api.error_responses import HTTP_STATUS, status_of
from tracker.api.guard import Route
from tracker.api.odata.query_options import SERVED
from tracker.api.routes import ROUTES
from tracker.domain import operation
from workers.handlers.media import MediaSubcode

DOCS = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
ROWS = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in DOCS.splitlines() if line[:1] == "|"}
FIRST_CELLS = {row[0] for row in ROWS}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_has_its_row(route: Route) -> None:
    assert f"`{route.method} {route.path}`" in FIRST_CELLS


def test_no_row_names_a_route_that_is_not_there() -> None:
    documented = {cell.strip("`") for cell in FIRST_CELLS if re.match(r"`[A-Z]+ /", cell)}
    assert documented == {f"{route.method} {route.path}" for route in ROUTES}


def test_every_reserved_result_has_its_row() -> None:
    reserved = [value for value in vars(operation).values() if isinstance(value, operation.ResultInfo)]
    assert {f"{result.code} / {result.subcode}" for result in reserved} <= FIRST_CELLS
    assert len(reserved) >= 6


def test_every_subcode_of_a_prompt_has_its_row() -> None:
    assert {str(int(subcode)) for subcode in MediaSubcode} <= FIRST_CELLS


@pytest.mark.parametrize("error", HTTP_STATUS, ids=lambda error: error.__name__)
def test_every_error_has_its_row(error: type[errors.TrackerError]) -> None:
    status = status_of(error("x"))
    assert (str(int(status)), f"`{error.code}`") in {row[:2] for row in ROWS}


def test_every_query_option_has_its_row() -> None:
    assert {f"`${option}`" for option in SERVED} <= FIRST_CELLS


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_has_its_type_and_parameters(name: str) -> None:
    action = ACTIONS[name]
    row = next(row for row in ROWS if row[0].endswith(f"/{name}`"))
    assert row[2] == f"`{action.type}`"
    assert set(re.findall(r"`(\w+)`", row[3])) == set(action.members)


def test_every_action_that_is_not_served_is_named() -> None:
    assert [name for name in UNSERVED if f"`{name}`" not in DOCS] == []


def test_every_code_of_google_is_named() -> None:
    assert [code for code in Code if f"{code.value} `{code.name}`" not in DOCS] == []
