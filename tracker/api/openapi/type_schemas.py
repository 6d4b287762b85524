"""What the description says of the registered types: a schema for each, its policy in words, an example."""

import math
from collections.abc import Mapping
from inspect import cleandoc
from typing import Final

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from tracker.api.openapi.components import SCHEMA_ROOT, ref
from tracker.api.openapi.examples import ended
from tracker.api.openapi.samples import sample
from tracker.api.openapi.schemas import SCHEMAS
from tracker.bodies.start_time import LONGEST_WAIT
from tracker.domain.operation import Json, Operation
from tracker.domain.policy import Policy
from tracker.domain.type_registry import COMMS_OPERATION, OperationType, TypeRegistry, canonical
from tracker.errors import ConfigurationError, Invalid

_NUMBER: Final = r"[0-9]+(\.[0-9]+)?"
_LENGTH: Final = rf"^(({_NUMBER}(ms|s|m|h|d))+|P(?=[0-9T])([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?({_NUMBER}S)?)?)$"
WAITS: Final[Mapping[str, Json]] = {
    "delay": {
        "description": "Not before so long from now: seconds, or a text like 90s, 1h30m or PT90S; at most 366 days.",
        "type": ["number", "string", "null"],
        "minimum": 0,
        "maximum": LONGEST_WAIT.total_seconds(),
        "pattern": _LENGTH,
        "examples": ["90s"],
        "writeOnly": True,
    },
    "notBefore": {
        "description": "Not before this time; at most 366 days ahead.",
        "type": ["string", "null"],
        "format": "date-time",
        "writeOnly": True,
    },
}
"""Members of every operation whose type has no member of its own of that name."""

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


class _Plain(GenerateJsonSchema):
    """Without a title per member, which would only repeat its name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def schema_of(entry: OperationType, ref_template: str = "#/$defs/{model}") -> Json:
    """The JSON schema of a type's members. Raises ConfigurationError for members that JSON has no form for."""
    try:
        schema = entry.model.model_json_schema(schema_generator=_Plain, ref_template=ref_template)
    except PydanticInvalidForJsonSchema as error:
        reason = error.message.partition("\n")[0]
        raise ConfigurationError(f"{entry.name}: a member cannot be described as JSON: {reason}") from None
    definitions = schema.get("$defs", {})
    itself = {ref_template.format(model=name): own for name, own in definitions.items()}.get(schema.get("$ref", ""))
    return schema if itself is None else {**itself, "$defs": definitions}  # a type that has members of its own kind


def type_schemas(registry: TypeRegistry, *, accept_unknown: bool) -> dict[str, Json]:
    """Two schemas per type, as an answer has it and as a create takes it; one for any answer and one for any create.

    Answers may also be of types that are not registered any more, and `$select` may leave any member out.
    """
    schemas: dict[str, Json] = {}
    kinds = {entry.name: component_of(entry) for entry in registry.values()}
    for entry in registry.values():
        schemas.update(_schemas_of(entry, kinds[entry.name]))
    schemas["unregisteredOperation"] = {
        "description": "An operation of a type that is not registered here (any more).",
        "allOf": [ref("anyOperation")],
        "properties": {"@odata.type": {"type": "string", "not": {"enum": list(kinds)}}},
        "required": ["@odata.type"],
    }
    schemas["operation"] = _any_of(kinds, {"unregisteredOperation"})
    schemas["sentMembers"] = _sent_members()
    created = {name: f"{kind}-new" for name, kind in kinds.items()}
    schemas["newOperation"] = _any_of(created, {"unregisteredOperation"} if accept_unknown else set())
    if (base := registry.get(COMMS_OPERATION)) is not None:
        schemas["newOperation"]["anyOf"].append(_untyped(created[base.name]))
    return schemas


def component_of(entry: OperationType) -> str:
    """The name of a type's schema. What belongs to it has a hyphen more, which no type's name has."""
    name = entry.name.removeprefix("#")
    return name if "." in name else f"type-{name}"


def request_example(entry: OperationType) -> Json | None:
    """A body that creates an operation of the type; None when no acceptable one can be made from its schema."""
    schema = schema_of(entry)
    definitions = schema.get("$defs", {})
    members: Json = dict(next(iter(schema.get("examples", ())), {}))
    left_out = {"clientContext", *entry.model.result_members()}
    for name, member in schema["properties"].items():
        if name not in left_out and (name in schema.get("required", ()) or "examples" in member):
            members.setdefault(name, sample(member, definitions))
    try:
        entry.validate(members)
    except Invalid:
        return None
    return {"@odata.type": entry.name, "clientContext": "my context", **members}


def description_of(entry: OperationType) -> str:
    """What a type is, in the words of its class, and how its operations are tried."""
    text = SCHEMAS["anyOperation"]["description"] if entry.model is Operation else cleandoc(entry.model.__doc__ or "")
    return "\n\n".join(filter(None, (text, policy_text(entry.declared))))


def policy_text(policy: Policy) -> str:
    """How operations of a type are tried, for people."""
    again = policy.attempts > 1
    parts = [
        f"{f'{policy.attempts} attempts, each' if again else '1 attempt,'} within {span(policy.run_within)}",
        f"the first starts within {span(policy.start_within)}" if policy.start_within else "any time to start",
        f"{span(policy.grace)} of grace when it is asked to stop",
    ]
    if again:
        parts.append(f"waits of up to {span(policy.backoff_first)}, doubling to {span(policy.backoff_cap)}, in between")
    if policy.concurrency:
        parts.append(f"at most {policy.concurrency} at once")
    if policy.rate:
        parts.append(f"at most {policy.rate} starts per {span(policy.per)}")
    if policy.serial:
        parts.append("one at a time within its call")
    if policy.priority != "default":
        parts.append(f"{policy.priority} priority")
    return f"Policy: {'; '.join(parts)}."


def span(seconds: float) -> str:
    """A length in words as short as they can be: "15 min", "1 h 30 min", "0.25 s"."""
    words, left = [], seconds
    for unit, name in _UNITS:
        count = math.floor(left / unit)
        left -= count * unit
        if count:
            words.append(f"{count} {name}")
    if left or not words:
        words.append(f"{left:g} s")
    return " ".join(words)


def _any_of(names: dict[str, str], others: set[str]) -> Json:
    mapping = {name: f"{SCHEMA_ROOT}{kind}" for name, kind in names.items()}
    return {
        "anyOf": [*({"$ref": target} for target in mapping.values()), *map(ref, sorted(others))],
        "discriminator": {"propertyName": "@odata.type", "mapping": mapping},
    }


def _untyped(base: str) -> Json:
    """Of the base type, then. Inline: a discriminator speaks of `$ref`s alone (OpenAPI)."""
    return {
        "description": "One that does not say its type is of the base type.",
        "allOf": [ref(base)],
        "properties": {"@odata.type": {"type": "null"}},
    }


def _schemas_of(entry: OperationType, name: str) -> dict[str, Json]:
    """A type's two schemas, and its own definitions."""
    own = schema_of(entry, f"{SCHEMA_ROOT}{name}-{{model}}")
    inner: dict[str, Json] = own.pop("$defs", {})
    new = _new(entry, own)
    own = {word: part for word, part in own.items() if word not in {"required", "examples"}}
    own["description"] = new["description"] = description_of(entry)
    example = request_example(entry)
    if example is not None:
        new["examples"] = [example]
        own["examples"] = [ended(entry.name, {name: example[name] for name in own["properties"] if name in example})]
    own["properties"] = {"@odata.type": {"const": entry.name}, **own["properties"]}
    own["allOf"] = [ref("anyOperation")]
    return {name: own, f"{name}-new": new, **{f"{name}-{model}": schema for model, schema in inner.items()}}


def _new(entry: OperationType, own: Json) -> Json:
    """What a create of a type takes; of the base type, the type may be left out."""
    is_base = canonical(entry.name) == canonical(COMMS_OPERATION)
    kind: Json = {"enum": [entry.name, None]} if is_base else {"const": entry.name}
    required = own.get("required", [])
    waits = {name: schema for name, schema in WAITS.items() if name not in own["properties"]}
    results = entry.model.result_members()
    members = {name: schema for name, schema in own["properties"].items() if name not in results}
    return {
        "allOf": [ref("sentMembers")],
        "type": "object",
        "properties": {"@odata.type": kind, **members, **waits},
        "required": required if is_base else ["@odata.type", *required],
        "additionalProperties": True,
    }


def _sent_members() -> Json:
    """What may be sent of any operation; what only the service writes is ignored, if its JSON type is right."""
    members: dict[str, Json] = {}
    for name, schema in SCHEMAS["anyOperation"]["properties"].items():
        word = "number" if schema.get("type") == "integer" else "string"
        if schema.get("readOnly"):
            members[name] = {"description": "Ignored.", "type": [word, "null"]}
        elif name != "@odata.type":
            members[name] = {**schema, "type": [word, "null"]} if schema.get("type") == "string" else schema
    return {"type": "object", "properties": members}
