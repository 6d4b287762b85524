"""The OpenAPI document: every route and type, and references that resolve."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tracker.api.actions import ACTIONS
from tracker.api.links import PREFIXES
from tracker.api.openapi.document import describe
from tracker.api.openapi.texts import ROUTE_TEXTS
from tracker.api.routes import ROUTES
from tracker.config import BUILT_IN_TYPES
from tracker.domain.type_modules import load_types

CATALOGUE = load_types(BUILT_IN_TYPES)
DESCRIPTION = describe(ROUTES, CATALOGUE)
TYPES = set(CATALOGUE)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _resolve(reference: str) -> Any:
    place: Any = DESCRIPTION
    for part in reference.removeprefix("#/").split("/"):
        place = place[part]
    return place


def test_every_route_is_described_and_no_other() -> None:
    described = {
        (method.upper(), path)
        for path, item in DESCRIPTION["paths"].items()
        for method in item
        if method not in {"parameters", "servers"}
    }
    assert described == {(route.method, route.path) for route in ROUTES}
    assert set(ROUTE_TEXTS) == {route.name for route in ROUTES}


def test_every_reference_resolves() -> None:
    references = set(_references(DESCRIPTION))
    mapping = DESCRIPTION["components"]["schemas"]["operation"]["discriminator"]["mapping"]
    assert len(references) > 5
    assert all(isinstance(_resolve(reference), dict) for reference in references | set(mapping.values()))


def test_every_registered_type_is_there_by_its_name() -> None:
    mapping = DESCRIPTION["components"]["schemas"]["operation"]["discriminator"]["mapping"]
    assert set(mapping) == TYPES


def test_result_members_stay_read_only() -> None:
    play_prompt = _resolve("#/components/schemas/microsoft.graph.playPromptOperation")
    assert play_prompt["properties"]["completionReason"]["readOnly"] is True


def test_schema_names_are_allowed_and_the_whole_is_json() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in DESCRIPTION["components"]["schemas"])
    assert json.loads(json.dumps(DESCRIPTION)) == DESCRIPTION


def test_every_path_parameter_is_declared() -> None:
    for path, item in DESCRIPTION["paths"].items():
        declared = [parameter["name"] for parameter in item["parameters"]]
        assert declared == re.findall(r"\{(\w+)\}", path)


def test_open_paths_need_no_token_and_paths_at_the_root_only_say_so() -> None:
    assert [server["url"] for server in DESCRIPTION["servers"]] == [prefix or "/" for prefix in PREFIXES]
    for route in ROUTES:
        item = DESCRIPTION["paths"][route.path]
        assert (item[route.method.lower()].get("security") == []) is route.open
        servers = item.get("servers", DESCRIPTION["servers"])
        assert [server["url"] for server in servers] == [prefix or "/" for prefix in route.prefixes]


def test_a_public_address_is_where_the_servers_are() -> None:
    description = describe(ROUTES, CATALOGUE, public_url="https://example.org/tracker")
    urls = [server["url"] for server in description["servers"]]
    assert urls == [f"https://example.org/tracker{prefix}" for prefix in PREFIXES]
    assert description["paths"]["/healthz"]["servers"] == [{"url": "https://example.org/tracker"}]


def test_the_body_of_an_action_has_the_parameters_that_the_action_reads() -> None:
    for name, action in ACTIONS.items():
        body = ROUTE_TEXTS[name].body or {}
        members = {
            parameter: reference["$ref"].rpartition("/")[2] for parameter, reference in body["properties"].items()
        }
        assert members == action.members
