"""JSON Schema as pydantic writes it (2020-12), told in OpenAPI 3.0's words, which OGC's process descriptions are in."""

from collections.abc import Mapping
from typing import Any, Final

_UNKNOWN: Final = frozenset({"$defs", "prefixItems", "patternProperties", "propertyNames", "unevaluatedProperties"})
"""Words that OpenAPI 3.0 does not have: without them a schema takes in more, never less."""
_NULL: Final = {"type": "null"}


def told(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """A schema with what it refers to in its place; a definition within itself is anything there."""
    if isinstance(schema, list):
        return [told(item, definitions, within) for item in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        whole = {} if name in within else told(definitions.get(name, {}), definitions, (*within, name))
        return {**whole, **told(rest, definitions, within)}
    words = {key: _named(key, value, definitions, within) for key, value in schema.items() if key not in _UNKNOWN}
    return _without_bounds(_without_null(words))


def _named(key: str, value: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    """The value of a word; `properties` has names for words, which may be any."""
    if key == "properties":
        return {name: told(schema, definitions, within) for name, schema in value.items()}
    return value if key in {"default", "enum", "const", "examples"} else told(value, definitions, within)


def _without_null(words: dict[str, Any]) -> dict[str, Any]:
    """Say `nullable`, `enum` and `example` for a null among other types, `const` and `examples`."""
    if isinstance(words.get("type"), list):
        words["anyOf"] = [{"type": kind} for kind in words.pop("type")]
    kinds = words.get("anyOf", [])
    if _NULL in kinds:
        others = [kind for kind in kinds if kind != _NULL]
        rest = {key: value for key, value in words.items() if key != "anyOf"}
        words = {**others[0], **rest} if len(others) == 1 else {**rest, "anyOf": others}
        words["nullable"] = True
    if "const" in words:
        words["enum"] = [words.pop("const")]
    if examples := words.pop("examples", None):
        words["example"] = next(iter(examples))
    return words


def _without_bounds(words: dict[str, Any]) -> dict[str, Any]:
    """Say a bound that is left out as `minimum` or `maximum`, and that it is left out."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in words:
            words[bound], words[exclusive] = words[exclusive], True
    return words
