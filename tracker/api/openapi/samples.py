"""Example values made from JSON schemas."""

from collections.abc import Mapping
from typing import Any, Final

from tracker.domain.operation import Json

_BY_FORMAT: Final = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT90S",
    "uuid": "8c2ea0d5-6d8a-4c53-9d2c-6a3a6ab3d3c5",
    "uri": "https://example.org/",
    "email": "somebody@example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
DEPTH: Final = 8
"""How many references of a schema to itself are followed at most."""


def sample(schema: Json, definitions: Mapping[str, Json], depth: int = DEPTH) -> Any:
    """A value of the schema: its first example or its default, or else the simplest value.

    The value keeps the bounds of numbers and lengths. It may break a pattern.
    """
    match schema:
        case {"examples": [value, *_]} | {"const": value} | {"enum": [value, *_]}:
            return value
        case {"default": value} if value is not None:
            return value
        case {"$ref": str(reference)} if depth:
            return sample(definitions[reference.rpartition("/")[2]], definitions, depth - 1)
        case {"anyOf": [choice, *_]} | {"oneOf": [choice, *_]} | {"allOf": [choice, *_]}:
            return sample(choice, definitions, depth)
    return _compound(schema, definitions, depth) if depth else None


def _compound(schema: Json, definitions: Mapping[str, Json], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            required, members = schema.get("required", ()), schema.get("properties", {})
            return {name: sample(members[name], definitions, depth - 1) for name in required if name in members}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * max(1, schema.get("minItems", 0))
            return [sample(item, definitions, depth - 1) for item in items]
        case _:
            return _scalar(schema)


def _scalar(schema: Json) -> Any:
    match schema.get("type"):
        case "string":
            text = _BY_FORMAT.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("maximum", 1) - 1) + 1)
            return least if schema.get("type") == "number" else int(least)
        case "boolean":
            return True
        case _:
            return None
