"""Types of OData's entity data model (EDM), made from JSON schemas.

EDM has no type for arrays of arrays, tuples, members of several types, and arbitrary JSON. A member of that kind is
left out. Operations are open types, so a client may still send the member, as a dynamic property.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tracker.domain.operation import Json

IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""OData's SimpleIdentifier (CSDL 4.0, 17.2), in ASCII."""

_NOT_IN_A_NAME: Final = re.compile(r"\W", re.ASCII)
_INT32: Final = 2**31
_BY_FORMAT: Final = {
    "date-time": "DateTimeOffset",
    "date": "Date",
    "time": "TimeOfDay",
    "duration": "Duration",
    "uuid": "Guid",
}


@dataclass(frozen=True, slots=True)
class Property:
    """A property and its facets. `computed` means that only the service writes the property."""

    name: str
    type: str
    nullable: bool
    max_length: int | None = None
    computed: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enumeration type, with its members in order."""

    members: tuple[str, ...]


@dataclass(slots=True)
class Structure:
    """A complex type. `open` means that a value may have other members, too."""

    properties: list[Property] = field(default_factory=list)
    open: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class _TypeUse:
    """The type of a member and its facets. `type` is None when EDM has no type for the member's schema."""

    type: str | None
    nullable: bool = False
    max_length: int | None = None


class Namespace:
    """The enumerations and complex types of one namespace, by name. Equal schemas share one type."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.types: dict[str, Enumeration | Structure] = {}
        self._sources: dict[str, str] = {}

    def claim(self, wanted: str, source: str) -> tuple[str, bool]:
        """Reserve a name for the type of the schema `source`. Returns it, and whether the type must still be made.

        A number is added to `wanted` when a type from another source has that name.
        """
        name, number = wanted, 1
        while self._sources.setdefault(name, source) != source:
            number += 1
            name = f"{wanted}{number}"
        return name, name not in self.types


class Reader:
    """Reads the schemas of one operation type. Types made from unnamed schemas get names that start with `prefix`."""

    def __init__(self, namespace: Namespace, prefix: str, definitions: Mapping[str, Json]) -> None:
        self._namespace, self._prefix, self._definitions = namespace, prefix, definitions
        self._followed: list[str] = []

    def properties(self, schema: Json) -> Iterator[Property]:
        """The properties of an object's schema, without those that EDM cannot describe."""
        required = set(schema.get("required", ()))
        for name, member in schema.get("properties", {}).items():
            type_use = self._type_of(member, name)
            if type_use.type is None or not IDENTIFIER.fullmatch(name):
                continue
            computed = member.get("readOnly") is True
            always = name in required or (not computed and member.get("default") is not None)
            yield Property(
                name=name,
                type=type_use.type,
                nullable=type_use.nullable or not (always or type_use.type.startswith("Collection")),
                max_length=type_use.max_length,
                computed=computed,
                description=member.get("description", ""),
            )

    def _type_of(self, schema: Json, name: str) -> _TypeUse:
        """The type of a member. A schema that allows null makes the member nullable."""
        match schema:
            case {"anyOf": list(choices)}:
                kinds = [choice for choice in choices if choice.get("type") != "null"]
            case {"type": list(words)}:
                choices = words
                kinds = [{**schema, "type": word} for word in words if word != "null"]
            case _:
                return self._type_without_null(schema, name)
        type_use = self._type_of(kinds[0], name) if len(kinds) == 1 else _TypeUse(None)
        return _TypeUse(type_use.type, type_use.nullable or len(kinds) < len(choices), type_use.max_length)

    def _type_without_null(self, schema: Json, name: str) -> _TypeUse:
        """The type of a schema with one JSON type, an enumeration or a reference."""
        match schema:
            case {"$ref": str(reference)}:
                return self._referenced(reference, name)
            case {"enum": list(values)} if _are_identifiers(values):
                return _TypeUse(self._enumeration(self._own_name(name), values))
            case {"type": "array"}:
                type_use = self._type_of({} if "prefixItems" in schema else schema.get("items", {}), name)
                nested = type_use.type is None or type_use.type.startswith("Collection")
                return _TypeUse(None if nested else f"Collection({type_use.type})", type_use.nullable)
            case {"type": "object"}:
                return _TypeUse(self._structure(self._own_name(name), schema))
        return _primitive(schema)

    def _own_name(self, member: str) -> str:
        """A type's name as Graph forms it: completionReason of playPromptOperation: playPromptCompletionReason."""
        return self._prefix + member[:1].upper() + member[1:]

    def _referenced(self, reference: str, name: str) -> _TypeUse:
        target = reference.rpartition("/")[2]
        schema = self._definitions[target]
        wanted = _NOT_IN_A_NAME.sub("_", target[:1].lower() + target[1:])
        if _are_identifiers(schema.get("enum", ())):
            return _TypeUse(self._enumeration(wanted, schema["enum"]))
        if schema.get("type") == "object":
            return _TypeUse(self._structure(wanted, schema))
        if target in self._followed:  # An array of itself has no type, and following it again would never end.
            return _TypeUse(None)
        self._followed.append(target)
        type_use = self._type_of(schema, name)
        self._followed.remove(target)
        return type_use

    def _enumeration(self, wanted: str, values: list[str]) -> str:
        name, new = self._namespace.claim(wanted, json.dumps(values))
        if new:
            self._namespace.types[name] = Enumeration(tuple(values))
        return f"{self._namespace.name}.{name}"

    def _structure(self, wanted: str, schema: Json) -> str:
        name, new = self._namespace.claim(wanted, json.dumps(schema, sort_keys=True))
        if new:
            structure = Structure(open=schema.get("additionalProperties") is not False)
            structure.description = schema.get("description", "")
            # A property may be of this type, so the type is stored before its properties are read.
            self._namespace.types[name] = structure
            structure.properties.extend(self.properties(schema))
        return f"{self._namespace.name}.{name}"


def _are_identifiers(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) and IDENTIFIER.fullmatch(value) for value in values)


def _primitive(schema: Json) -> _TypeUse:
    match schema.get("type"):
        case "string":
            name = _BY_FORMAT.get(schema.get("format", ""), "String")
        case "integer":
            name = "Int32" if _is_int32(schema) else "Int64"
        case "number":
            name = "Double"
        case "boolean":
            name = "Boolean"
        case _:
            return _TypeUse(None)
    return _TypeUse(f"Edm.{name}", max_length=schema.get("maxLength") if name == "String" else None)


def _is_int32(schema: Json) -> bool:
    least: Any = schema.get("minimum", schema.get("exclusiveMinimum", -_INT32 - 1))
    most: Any = schema.get("maximum", schema.get("exclusiveMaximum", _INT32))
    return schema.get("format") == "int32" or (least >= -_INT32 and most < _INT32)
