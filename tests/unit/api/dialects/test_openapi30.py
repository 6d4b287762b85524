"""Schemas in OpenAPI 3.0's words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, WithJsonSchema

from tracker.api.dialects.openapi30 import converted


class Leaf(BaseModel):
    const: Literal["only"] = "only"
    enum: int | None = None


class Tree(BaseModel):
    leaf: Leaf = Field(description="A leaf.")
    branches: "list[Tree]" = Field(default_factory=list)
    either: int | str | None = None
    ratio: Annotated[float, Field(gt=0, lt=1)]
    pair: tuple[int, str] | None = None
    shown: str = Field("a", examples=["b", "c"])
    hidden: str = Field("a", examples=[])
    listed: Annotated[str | None, WithJsonSchema({"type": ["string", "null"]})] = None
    elsewhere: Annotated[str, WithJsonSchema({"$ref": "https://example.org/schema"})] = ""


def written(model: type[BaseModel]) -> Any:
    schema = model.model_json_schema()
    return converted(schema, schema.get("$defs", {}))


def test_what_is_referred_to_stands_in_its_place() -> None:
    leaf = written(Tree)["properties"]["leaf"]
    assert (leaf["type"], leaf["description"]) == ("object", "A leaf.")
    assert leaf["properties"]["const"]["enum"] == ["only"]
    assert leaf["properties"]["enum"]["nullable"] is True


def test_a_type_within_itself_is_anything() -> None:
    tree = written(Tree)
    assert tree["properties"]["branches"]["items"] == {}
    assert tree["required"] == ["leaf", "ratio"]


def test_a_null_among_others_is_said_in_one_word() -> None:
    either = written(Tree)["properties"]["either"]
    assert [kind["type"] for kind in either["anyOf"]] == ["integer", "string"]
    assert either["nullable"] is True


def test_a_list_of_types_is_a_choice() -> None:
    listed = written(Tree)["properties"]["listed"]
    assert (listed["type"], listed["nullable"]) == ("string", True)


def test_what_stands_elsewhere_is_anything() -> None:
    assert written(Tree)["properties"]["elsewhere"].keys() <= {"default", "title"}


def test_bounds_that_are_left_out_are_flags() -> None:
    ratio = written(Tree)["properties"]["ratio"]
    assert {name: ratio[name] for name in ratio if "imum" in name} == {
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }


def test_one_example_is_shown() -> None:
    properties = written(Tree)["properties"]
    assert (properties["shown"]["example"], "example" in properties["hidden"]) == ("b", False)


@pytest.mark.parametrize("model", [Leaf, Tree])
def test_no_word_is_left_that_openapi_30_does_not_have(model: type[BaseModel]) -> None:
    def words(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(words, schema))
        if not isinstance(schema, dict):
            return set()
        inner = [schema[word] for word in ("items", "anyOf", "additionalProperties") if word in schema]
        return set(schema).union(*map(words, [*inner, *schema.get("properties", {}).values()]))

    unknown = {"$ref", "$defs", "const", "examples", "prefixItems", "null"}
    assert words(written(model)).isdisjoint(unknown)
