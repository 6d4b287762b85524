"""JSON schemas of pydantic models as OData's types."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, JsonValue

from tracker.api.openapi.edm import Enumeration, Namespace, Property, Reader, Structure


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    """A leaf."""

    model_config = ConfigDict(extra="forbid")

    size: int
    next: "Leaf | None" = None


class Members(BaseModel):
    text: str
    short: str = Field(max_length=10)
    moment: datetime
    day: date
    hour: time
    length: timedelta
    key: UUID
    link: AnyHttpUrl
    data: bytes
    whole: int
    small: Annotated[int, Field(ge=0, le=10)]
    real: float
    flag: bool
    maybe: int | None = None
    with_default: int = 5
    result: str | None = Field(None, json_schema_extra={"readOnly": True})
    color: Color
    size: Literal["small", "large"]
    preset: Literal["480p", "720p"]
    one: Literal["one"]
    number: Literal[1, 2]
    leaf: Leaf
    leaves: list[Leaf]
    holes: list[int | None]
    words: set[str]
    labels: dict[str, str]
    either: int | str
    amount: Decimal
    table: list[list[int]]
    pair: tuple[int, str]
    anything: Any = None
    json_value: JsonValue = None


SCHEMA = Members.model_json_schema()


@pytest.fixture
def namespace() -> Namespace:
    return Namespace("tests")


@pytest.fixture
def members(namespace: Namespace) -> dict[str, Property]:
    reader = Reader(namespace, "build", SCHEMA["$defs"])
    return {found.name: found for found in reader.properties(SCHEMA)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("text", "Edm.String"),
        ("moment", "Edm.DateTimeOffset"),
        ("day", "Edm.Date"),
        ("hour", "Edm.TimeOfDay"),
        ("length", "Edm.Duration"),
        ("key", "Edm.Guid"),
        ("link", "Edm.String"),
        ("data", "Edm.String"),
        ("whole", "Edm.Int64"),
        ("small", "Edm.Int32"),
        ("real", "Edm.Double"),
        ("flag", "Edm.Boolean"),
        ("maybe", "Edm.Int64"),
        ("color", "tests.color"),
        ("size", "tests.buildSize"),
        ("preset", "Edm.String"),
        ("one", "Edm.String"),
        ("number", "Edm.Int64"),
        ("leaf", "tests.leaf"),
        ("leaves", "Collection(tests.leaf)"),
        ("holes", "Collection(Edm.Int64)"),
        ("words", "Collection(Edm.String)"),
        ("labels", "tests.buildLabels"),
    ],
)
def test_a_member_has_the_type_that_its_values_have(members: dict[str, Property], name: str, kind: str) -> None:
    assert members[name].type == kind


@pytest.mark.parametrize("name", ["either", "amount", "table", "pair", "anything", "json_value"])
def test_what_odata_cannot_say_is_left_out(members: dict[str, Property], name: str) -> None:
    assert name in SCHEMA["properties"]
    assert name not in members


def test_what_may_be_null_or_missing_is_nullable(members: dict[str, Property]) -> None:
    nullable = {name for name, found in members.items() if found.nullable}
    assert nullable == {"maybe", "result", "holes"}
    assert {name for name, found in members.items() if found.computed} == {"result"}
    assert members["short"].max_length == 10


def test_enumerations_and_complex_types_are_found_on_the_way(
    namespace: Namespace, members: dict[str, Property]
) -> None:
    assert members
    assert namespace.types["color"] == Enumeration(("red", "blue"))
    leaf = namespace.types["leaf"]
    assert isinstance(leaf, Structure)
    assert (leaf.open, leaf.description) == (False, "A leaf.")
    assert [(found.name, found.type, found.nullable) for found in leaf.properties] == [
        ("size", "Edm.Int64", False),
        ("next", "tests.leaf", True),
    ]
    assert namespace.types["buildLabels"] == Structure(open=True)


def test_two_types_with_the_same_name_are_distinguished(namespace: Namespace) -> None:
    def kinds() -> Iterator[str]:
        for values in (["a", "b"], ["a", "c"], ["a", "b"]):
            schema = {"properties": {"mode": {"enum": values}}, "required": ["mode"]}
            yield from (found.type for found in Reader(namespace, "run", {}).properties(schema))

    assert list(kinds()) == ["tests.runMode", "tests.runMode2", "tests.runMode"]


def test_an_array_of_itself_has_an_end(namespace: Namespace) -> None:
    tree = {"type": "array", "items": {"$ref": "#/$defs/Tree"}}
    schema = {"properties": {"tree": {"$ref": "#/$defs/Tree"}, "again": tree}}
    assert not list(Reader(namespace, "run", {"Tree": tree}).properties(schema))


def test_a_definition_is_named_in_letters_that_odata_has(namespace: Namespace) -> None:
    schema = {"properties": {"part": {"$ref": "#/$defs/Part-Input"}}, "required": ["part"]}
    reader = Reader(namespace, "run", {"Part-Input": {"type": "object"}})
    assert [found.type for found in reader.properties(schema)] == ["tests.part_Input"]


def test_a_name_that_is_no_identifier_is_left_out(namespace: Namespace) -> None:
    schema = {"properties": {"foo-bar": {"type": "string"}, "@odata.type": {"type": "string"}}}
    assert not list(Reader(namespace, "run", {}).properties(schema))
