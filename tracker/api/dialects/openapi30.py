"""Converter from JSON Schema 2020-12, which pydantic writes, to the schemas of OpenAPI 3.0, which OGC demands."""

from collections.abc import Mapping
from typing import Any, Final

_UNSUPPORTED: Final = frozenset({"$defs", "prefixItems", "patternProperties", "propertyNames", "unevaluatedProperties"})
"""Keywords that OpenAPI 3.0 does not have. A schema without them accepts more values, and never fewer."""
_NULL: Final = {"type": "null"}


def converted(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """Convert a schema. References are replaced by the definitions that they name.

    A reference inside its own definition becomes an empty schema, which accepts every value. `within`: the names of the
    definitions around this schema.
    """
    if isinstance(schema, list):
        return [converted(item, definitions, within) for item in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        definition = {} if name in within else converted(definitions.get(name, {}), definitions, (*within, name))
        return {**definition, **converted(rest, definitions, within)}
    keywords = {
        key: _value_of(key, value, definitions, within) for key, value in schema.items() if key not in _UNSUPPORTED
    }
    return _with_boolean_bounds(_with_nullable(keywords))


def _value_of(key: str, value: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    """The converted value of a keyword. The names in `properties` are no keywords, so none of them is left out."""
    if key == "properties":
        return {name: converted(schema, definitions, within) for name, schema in value.items()}
    return value if key in {"default", "enum", "const", "examples"} else converted(value, definitions, within)


def _with_nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace a null among other types by `nullable`, `const` by `enum`, and `examples` by `example`."""
    if isinstance(schema.get("type"), list):
        schema["anyOf"] = [{"type": kind} for kind in schema.pop("type")]
    kinds = schema.get("anyOf", [])
    if _NULL in kinds:
        others = [kind for kind in kinds if kind != _NULL]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = {**others[0], **rest} if len(others) == 1 else {**rest, "anyOf": others}
        schema["nullable"] = True
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if examples := schema.pop("examples", None):
        schema["example"] = next(iter(examples))
    return schema


def _with_boolean_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace `exclusiveMinimum: 3` by `minimum: 3` with `exclusiveMinimum: true`, and the maximum likewise."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            schema[bound], schema[exclusive] = schema[exclusive], True
    return schema
