"""The description is valid by a validator from another project, and its examples keep their schemas."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.openapi_checks import examples, faults
from tests.support.records import make_record
from tracker.api.error_responses import HTTP_STATUS
from tracker.api.openapi.document import describe
from tracker.api.openapi.responses import COMMON, responses
from tracker.api.openapi.texts import HEADERS, RouteText, ref
from tracker.api.routes import ROUTES
from tracker.bodies.create import read_create
from tracker.bodies.patch import read_patch
from tracker.config import BUILT_IN_TYPES
from tracker.domain.operation import Json
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import COMMS_OPERATION
from tracker.errors import Invalid

CATALOGUE = load_types([*BUILT_IN_TYPES, "examples.contoso.operations"])
DESCRIPTION = describe(ROUTES, CATALOGUE)
OPERATIONS = {
    route.name: DESCRIPTION["paths"][route.path][route.method.lower()] for route in ROUTES
}  # fmt: skip
LIST = next(route for route in ROUTES if route.name == "listOperations")
EXAMPLES = list(examples(DESCRIPTION))
NEW = {"$ref": "#/components/schemas/newOperation"}
PATCH = OPERATIONS["updateOperation"]["requestBody"]["content"]["application/json"]["schema"]
ANSWER = {"$ref": "#/components/schemas/operation"}
RESULTS_WITHOUT_MEMBERS: list[Json] = [
    {},
    {"@odata.type": "#microsoft.graph.resultInfo"},
    {"code": None, "subcode": None, "message": None, "another": None},
    {"code@odata.type": "#Int32"},
]


def test_the_description_is_valid_openapi() -> None:
    found = [error.message for error in OpenAPIV31SpecValidator(json.loads(json.dumps(DESCRIPTION))).iter_errors()]
    assert not found


@pytest.mark.parametrize(("place", "value", "schema"), EXAMPLES, ids=[place for place, _, _ in EXAMPLES])
def test_every_example_keeps_its_schema(place: str, value: Any, schema: Json) -> None:
    assert not faults(value, schema, DESCRIPTION), place


def test_every_registered_type_has_an_example_that_the_service_takes() -> None:
    shown = OPERATIONS["createOperation"]["requestBody"]["content"]["application/json"]["examples"]
    assert set(shown) == {name.removeprefix("#") for name in CATALOGUE}
    for example in shown.values():
        assert read_create("c", example["value"], CATALOGUE).type.name == example["value"]["@odata.type"]


@pytest.mark.parametrize("body", [{}, {"@odata.type": None}])
def test_a_body_that_does_not_name_its_type_is_not_left_to_the_discriminator(body: Json) -> None:
    """A discriminator reads a name that is there and is text, and chooses among references alone."""
    assert read_create("c", body, CATALOGUE).type.name == COMMS_OPERATION
    schema = DESCRIPTION["components"]["schemas"]["newOperation"]
    inline = [branch for branch in schema["anyOf"] if "$ref" not in branch]
    assert not faults(body, {"anyOf": inline}, DESCRIPTION)
    assert faults(body | {"@odata.type": COMMS_OPERATION}, {"anyOf": inline}, DESCRIPTION)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_text_and_its_answers_have_the_common_headers(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    for answer in operation["responses"].values():
        if "$ref" not in answer:
            assert set(COMMON) <= set(answer["headers"])


def test_every_header_that_is_referred_to_is_described() -> None:
    assert all(header["description"] and "example" in header for header in HEADERS.values())
    for header in HEADERS.values():
        assert not faults(header["example"], header["schema"], DESCRIPTION)


def test_every_error_of_ours_is_an_answer_with_graphs_body() -> None:
    said = DESCRIPTION["components"]["responses"]
    for answer in said.values():
        assert answer["content"]["application/json"]["schema"] == ref("error")
    codes = {
        answer["content"]["application/json"]["examples"]["example"]["value"]["error"]["code"]
        for answer in said.values()
    }
    assert codes == set(said)
    assert {error.code for error in HTTP_STATUS} <= codes


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("cancelOperation", {400, 401, 403, 404, 406, 408, 410, 412, 413, 414, 415, 417, 429, 431, 500, 501, 503}),
        ("listOperations", {400, 401, 406, 408, 414, 417, 429, 431, 500, 501, 503}),
        ("deleteOperation", {400, 401, 403, 404, 406, 408, 410, 412, 414, 417, 429, 431, 500, 501, 503}),
        ("isHealthy", {408, 417, 500, 503}),
    ],
)
def test_what_a_route_can_fail_with_follows_from_what_it_is(name: str, statuses: set[int]) -> None:
    said = {int(status) for status in OPERATIONS[name]["responses"]}
    assert {status for status in said if status >= 400} == statuses


def test_a_route_may_fail_in_words_of_its_own() -> None:
    route = next(route for route in ROUTES if route.name == "getMonitor")
    text = RouteText("x", {HTTPStatus.OK: None}, error={"type": "object"}, error_media_type="application/problem+json")
    failure = responses(route, text, ROUTES)["404"]
    assert failure["content"] == {"application/problem+json": {"schema": {"type": "object"}}}


def test_a_created_operation_links_to_all_that_can_be_done_with_it() -> None:
    links = OPERATIONS["createOperation"]["responses"]["201"]["links"]
    assert {"getOperation", "deleteOperation", "cancelOperation", "getMonitor", "cancelMonitored"} <= set(links)
    for name, link in links.items():
        path = next(route.path for route in ROUTES if route.name == name)
        assert {f"{{{parameter}}}" in path for parameter in link["parameters"]} == {True}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"@odata.type": None, "id": None, "clientContext": None, "resultInfo": None, "status": "String", "attempt": 5},
        {"@odata.type": "#microsoft.graph.commsOperation", "anything": [1]},
        *({"delay": value} for value in (0, 1.5, "90s", "1h30m", "1.5h", "PT90S", "P1DT1M", "PT0.5S", "P366D")),
        {"resultInfo": {"@odata.type": "microsoft.graph.ResultInfo", "code": 4, "subcode": None, "message": None}},
        *({"resultInfo": value} for value in RESULTS_WITHOUT_MEMBERS),
        {
            "@odata.type": "#microsoft.graph.playPromptOperation",
            "prompts": [{"mediaInfo": {"uri": "a.wav"}}],
            "delay": 5,
        },
    ],
)
def test_a_body_that_the_service_takes_keeps_the_schema(body: Json) -> None:
    assert not faults(body, NEW, DESCRIPTION)
    read_create("c", body, CATALOGUE)


@pytest.mark.parametrize(
    "body",
    [
        {"@odata.type": "#microsoft.graph.playPromptOperation"},
        {"@odata.type": "#microsoft.graph.playPromptOperation", "prompts": []},
        {"@odata.type": "#contoso.unknown"},
        {"clientContext": "x" * 257},
        {"id": ".."},
        {"id": "events"},
        {"status": 7},
        *({"delay": value} for value in ("", "P", "PT", "P1DT", "1", "s", "1w", "-1s", -1, 366 * 86_400 + 1, True)),
        {"resultInfo": {"@odata.type": "", "code": 4}},
        {"resultInfo": {"@odata.type": None}},
        {"resultInfo": {"message": "without a code"}},
        {"resultInfo": {"another": 1}},
        {"id": 7},
    ],
)
def test_a_body_that_the_service_refuses_breaks_the_schema(body: Json) -> None:
    assert faults(body, NEW, DESCRIPTION)
    with pytest.raises(Exception, match=r".+: "):
        read_create("c", body, CATALOGUE)


@pytest.mark.parametrize(
    "body",
    [
        *({"id": value} for value in ("another", "IU0rd8*", "events", "", None)),
        *({"resultInfo": value} for value in RESULTS_WITHOUT_MEMBERS),
    ],
)
def test_a_patch_that_changes_nothing_keeps_the_schema(body: Json) -> None:
    assert not faults(body, PATCH, DESCRIPTION)
    assert read_patch(body, make_record(), CATALOGUE[COMMS_OPERATION]) == {}


@pytest.mark.parametrize("body", [{"id": 7}, {"status": 7}, {"attempt": "7"}, {"clientContext": 7}])
def test_a_patch_that_the_service_refuses_breaks_the_schema(body: Json) -> None:
    assert faults(body, PATCH, DESCRIPTION)
    with pytest.raises(Invalid):
        read_patch(body, make_record(), CATALOGUE[COMMS_OPERATION])


def test_where_unknown_types_are_accepted_the_schema_takes_them_too() -> None:
    description = describe(ROUTES, CATALOGUE, accept_unknown=True)
    assert not faults({"@odata.type": "#contoso.unknown"}, NEW, description)


def test_an_answer_may_be_of_a_type_that_is_gone_but_not_of_one_that_is_here_and_wrong() -> None:
    play_prompt = {"@odata.type": "#microsoft.graph.playPromptOperation"}
    assert not faults({"@odata.type": "#contoso.gone", "prompts": 5}, ANSWER, DESCRIPTION)
    assert not faults(play_prompt, ANSWER, DESCRIPTION), "$select may have left out the rest"
    assert faults({**play_prompt, "completionReason": "tired"}, ANSWER, DESCRIPTION)


def test_the_description_of_a_create_has_its_preferences_and_keys() -> None:
    route = next(route for route in ROUTES if route.name == "createOperation")
    parameters = [{"in": "header", "name": name} for name in ("Prefer", "Repeatability-Request-ID", "If-Match")]
    text = RouteText("x", {HTTPStatus.ACCEPTED: ref("operation"), HTTPStatus.NO_CONTENT: None}, parameters)
    said = responses(route, text, ROUTES)
    assert {"409", "412"} <= set(said)
    for status in ("202", "204"):
        assert {"ETag", "Vary", "Location", "OData-EntityId", "Preference-Applied", "Repeatability-Result"} <= set(
            said[status]["headers"]
        )
    assert ("links" in said["202"], "links" in said["204"]) == (True, False)


def test_the_minimal_text_of_a_route_is_enough() -> None:
    text = RouteText("x", {HTTPStatus.OK: ref("health")})
    assert set(responses(LIST, text, ROUTES)) == {
        *("200", "400", "401", "406", "408", "414", "417", "429", "431", "500", "501", "503"),
    }
