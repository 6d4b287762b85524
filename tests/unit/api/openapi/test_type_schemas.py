"""The description of an operation type: its policy, an example, its members."""

from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.support.openapi_checks import faults
from tracker.api.openapi.samples import sample
from tracker.api.openapi.texts import SCHEMAS
from tracker.api.openapi.type_schemas import policy_text, request_example, schema_of, span, type_schemas
from tracker.domain.operation import Operation
from tracker.domain.policy import Policy
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.errors import ConfigurationError


class Part(BaseModel):
    name: str = Field(min_length=12, max_length=20)
    parts: list["Part"] = Field(default_factory=list)


class Build(Operation, type="#tests.buildOperation"):
    """Builds parts."""

    parts: list[Part] = Field(min_length=2)
    share: float = Field(gt=0, lt=2)
    level: int = Field(ge=3)
    within: timedelta
    kind: Literal["small", "large"]
    delay: bool = False
    color: str = Field("red", examples=["blue"])
    outcome: str | None = Field(None, json_schema_extra={"readOnly": True})


class Coded(Operation, type="#tests.codedOperation"):
    code: str = Field(pattern="^[A-Z]{3}-[0-9]{3}$")


class Wrong(Coded, type="#tests.wrongOperation"):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "wrong"}]})


class Shown(Operation, type="#tests.shownOperation"):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "ABC-123"}]})

    code: str = Field(pattern="^[A-Z]{3}-[0-9]{3}$")


class Node(Operation, type="#tests.nodeOperation"):
    size: int
    nodes: list["Node"] = Field(default_factory=list)


class Plain(Operation, type="#monitor"):
    pass


class Foreign:
    pass


class Odd(Operation, type="#tests.oddOperation"):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: Foreign


def entry(model: type[Operation], **policy: Any) -> OperationType:
    return OperationType(model.odata_type, model, None, Policy(**policy))


def schemas(*models: type[Operation]) -> dict[str, Any]:
    registry = TypeRegistry()
    for model in models:
        registry.add(entry(model))
    return {"components": {"schemas": type_schemas(registry, accept_unknown=False)}}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.25, "0.25 s"), (90, "1 min 30 s"), (900, "15 min"), (5400, "1 h 30 min"), (86_400, "1 d")],
)
def test_a_length_is_written_in_the_fewest_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_default_policy_reads_as_it_is() -> None:
    assert policy_text(Policy()) == (
        "Policy: 3 attempts, each within 15 min; any time to start; 5 s of grace when it is asked to stop;"
        " waits of up to 1 s, doubling to 1 min, in between."
    )


def test_every_option_of_a_policy_is_told() -> None:
    policy = Policy(
        attempts=1, run_within=60, start_within=30, concurrency=4, rate=5, per=30, serial=True, priority="high"
    )
    assert policy_text(policy) == (
        "Policy: 1 attempt, within 1 min; the first starts within 30 s; 5 s of grace when it is asked to stop;"
        " at most 4 at once; at most 5 starts per 30 s; one at a time within its call; high priority."
    )


def test_an_example_is_made_from_the_members_that_a_create_needs() -> None:
    assert request_example(entry(Build)) == {
        "@odata.type": "#tests.buildOperation",
        "clientContext": "my context",
        "parts": [{"name": "text........"}, {"name": "text........"}],
        "share": 1,
        "level": 3,
        "within": "PT90S",
        "kind": "small",
        "color": "blue",
    }


@pytest.mark.parametrize("model", [Coded, Wrong])
def test_an_example_that_would_be_refused_is_not_shown(model: type[Operation]) -> None:
    assert request_example(entry(model)) is None
    found = schemas(model)["components"]["schemas"]
    assert "examples" not in found[f"{model.odata_type[1:]}-new"]
    assert "examples" not in found[model.odata_type[1:]]


def test_a_type_may_bring_its_own_example() -> None:
    example = request_example(entry(Shown))
    assert example is not None
    assert example["code"] == "ABC-123"


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    schema = {"$ref": "#/$defs/Node"}
    node = {"type": "object", "properties": {"next": schema}, "required": ["next"]}
    assert "next" in sample(schema, {"Node": node})


def test_the_docstring_and_the_policy_are_the_description() -> None:
    described = schemas(Build)["components"]["schemas"]["tests.buildOperation"]["description"]
    assert described.startswith("Builds parts.\n\nPolicy: 3 attempts")


def test_a_member_of_the_types_own_is_not_replaced_by_ours_of_that_name() -> None:
    found = schemas(Build)["components"]["schemas"]
    for name in ("tests.buildOperation", "tests.buildOperation-new"):
        assert found[name]["properties"]["delay"]["type"] == "boolean"
    assert "notBefore" in found["tests.buildOperation-new"]["properties"]
    assert "notBefore" not in found["tests.buildOperation"]["properties"]


def test_nested_models_are_named_after_their_type() -> None:
    assert "tests.buildOperation-Part" in schemas(Build)["components"]["schemas"]


def test_a_type_may_have_members_of_its_own_kind() -> None:
    found = schemas(Node)["components"]["schemas"]
    assert found["tests.nodeOperation"]["properties"]["nodes"]["items"]["$ref"].endswith("/tests.nodeOperation-Node")
    assert found["tests.nodeOperation-new"]["required"] == ["@odata.type", "size"]
    assert request_example(entry(Node)) is not None


def test_no_type_takes_the_place_of_a_common_schema() -> None:
    assert set(schemas(Plain)["components"]["schemas"]).isdisjoint(SCHEMAS)


def test_a_member_that_json_has_no_form_for_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="oddOperation"):
        schema_of(entry(Odd))


def test_a_result_may_be_missing_in_an_answer() -> None:
    description = schemas(Build)
    description["components"]["schemas"]["anyOperation"] = {"type": "object"}
    answer = {"$ref": "#/components/schemas/tests.buildOperation"}
    assert not faults({"@odata.type": "#tests.buildOperation"}, answer, description)
    assert faults({"@odata.type": "#tests.buildOperation", "kind": "other"}, answer, description)
