"""JSON schemas of the registered types, with their policies in words and an example of each."""

import math
from inspect import cleandoc
from typing import Final

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from tracker.api.openapi.examples import completed_operation
from tracker.api.openapi.samples import sample
from tracker.api.openapi.texts import SCHEMA_ROOT, SCHEMAS, START_TIMES, ref
from tracker.domain.operation import Json, Operation
from tracker.domain.policy import Policy
from tracker.domain.type_registry import COMMS_OPERATION, OperationType, TypeRegistry, canonical
from tracker.errors import ConfigurationError, Invalid

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))

_EMPTY_RESULT_INFO: Final[Json] = {
    "description": "No members, or null members only: the same as null.",
    "type": "object",
    "properties": {"@odata.type": SCHEMAS["resultInfo"]["properties"]["@odata.type"]},
    "patternProperties": {"@": True},
    "additionalProperties": {"type": "null"},
}


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles of members, because a title only repeats the member's name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def schema_of(entry: OperationType, ref_template: str = "#/$defs/{model}") -> Json:
    """The JSON schema of a type's members. Raises ConfigurationError for a member that JSON cannot represent."""
    try:
        schema = entry.model.model_json_schema(schema_generator=_WithoutTitles, ref_template=ref_template)
    except PydanticInvalidForJsonSchema as error:
        reason = error.message.partition("\n")[0]
        raise ConfigurationError(f"{entry.name}: a member cannot be described as JSON: {reason}") from None
    definitions = schema.get("$defs", {})
    # If members of a class have the class as their type, pydantic puts the class among the definitions, and returns a
    # reference to it.
    by_reference = {ref_template.format(model=name): definition for name, definition in definitions.items()}
    definition = by_reference.get(schema.get("$ref", ""))
    return schema if definition is None else {**definition, "$defs": definitions}


def type_schemas(registry: TypeRegistry, *, accept_unknown: bool) -> dict[str, Json]:
    """All schemas of the registered types, by name: two for each type, and two for an operation of any type.

    The first schema of a type describes its operations in responses. It requires no member, because `$select` may leave
    out any member. The second schema, whose name ends in `-new`, describes creates. `operation` accepts any of the
    first schemas, and `newOperation` any of the second. `operation` allows unregistered types, too, because an
    operation may be older than the present registry.
    """
    schemas: dict[str, Json] = {}
    names = {entry.name: component_of(entry) for entry in registry.values()}
    for entry in registry.values():
        schemas.update(_schemas_of(entry, names[entry.name]))
    schemas["unregisteredOperation"] = {
        "description": "An operation of a type that is not registered here (any more).",
        "allOf": [ref("anyOperation")],
        "properties": {"@odata.type": {"type": "string", "not": {"enum": list(names)}}},
        "required": ["@odata.type"],
    }
    schemas["operation"] = _any_of(names, {"unregisteredOperation"})
    schemas["sentMembers"] = _sent_members()
    created = {name: f"{component}-new" for name, component in names.items()}
    schemas["newOperation"] = _any_of(created, {"unregisteredOperation"} if accept_unknown else set())
    if (base := registry.get(COMMS_OPERATION)) is not None:
        schemas["newOperation"]["anyOf"].append(_untyped(created[base.name]))
    return schemas


def component_of(entry: OperationType) -> str:
    """The name of a type's schema.

    Other schemas of the type add a suffix after a hyphen. Names of types have no hyphen, so no two names collide.
    """
    name = entry.name.removeprefix("#")
    return name if "." in name else f"type-{name}"


def request_example(entry: OperationType) -> Json | None:
    """A body that creates an operation of the type. None when the type refuses the body made from its schema."""
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
    """The docstring of a type's class, and the type's policy in words."""
    text = SCHEMAS["anyOperation"]["description"] if entry.model is Operation else cleandoc(entry.model.__doc__ or "")
    return "\n\n".join(filter(None, (text, policy_text(entry.declared))))


def policy_text(policy: Policy) -> str:
    """A policy in words: attempts, time limits and rates."""
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
    """A length of time in words, such as "15 min", "1 h 30 min" or "0.25 s"."""
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
    mapping = {name: f"{SCHEMA_ROOT}{component}" for name, component in names.items()}
    return {
        "anyOf": [*({"$ref": target} for target in mapping.values()), *map(ref, sorted(others))],
        "discriminator": {"propertyName": "@odata.type", "mapping": mapping},
    }


def _untyped(base: str) -> Json:
    """The schema of a create without a type, which is a create of the base type.

    The schema has no name of its own, because a discriminator considers named schemas only (OpenAPI 3.1, 4.8.25).
    """
    return {
        "description": "A create without a type creates an operation of the base type.",
        "allOf": [ref(base)],
        "properties": {"@odata.type": {"type": "null"}},
    }


def _schemas_of(entry: OperationType, name: str) -> dict[str, Json]:
    """The two schemas of a type, and the schemas that they refer to."""
    own = schema_of(entry, f"{SCHEMA_ROOT}{name}-{{model}}")
    inner: dict[str, Json] = own.pop("$defs", {})
    new = _create_schema(entry, own)
    own = {word: part for word, part in own.items() if word not in {"required", "examples"}}
    own["description"] = new["description"] = description_of(entry)
    example = request_example(entry)
    if example is not None:
        new["examples"] = [example]
        own["examples"] = [
            completed_operation(entry.name, {name: example[name] for name in own["properties"] if name in example})
        ]
    own["properties"] = {"@odata.type": {"const": entry.name}, **own["properties"]}
    own["allOf"] = [ref("anyOperation")]
    return {name: own, f"{name}-new": new, **{f"{name}-{model}": schema for model, schema in inner.items()}}


def _create_schema(entry: OperationType, own: Json) -> Json:
    """The schema of a create. A create of the base type may leave out its type."""
    is_base = canonical(entry.name) == canonical(COMMS_OPERATION)
    type_schema: Json = {"enum": [entry.name, None]} if is_base else {"const": entry.name}
    required = own.get("required", [])
    start_times = {name: schema for name, schema in START_TIMES.items() if name not in own["properties"]}
    results = entry.model.result_members()
    members = {name: schema for name, schema in own["properties"].items() if name not in results}
    return {
        "allOf": [ref("sentMembers")],
        "type": "object",
        "properties": {
            "@odata.type": type_schema,
            "id": _nullable(SCHEMAS["anyOperation"]["properties"]["id"]),
            **members,
            **start_times,
        },
        "required": required if is_base else ["@odata.type", *required],
        "additionalProperties": True,
    }


def _sent_members() -> Json:
    """The schema of the members that a create or a patch of any type may send.

    Members that only the service writes are ignored, but their JSON type is checked. `id` is ignored by a patch, and a
    create limits it further.
    """
    members: dict[str, Json] = {}
    for name, schema in SCHEMAS["anyOperation"]["properties"].items():
        json_type = "number" if schema.get("type") == "integer" else "string"
        if schema.get("readOnly"):
            members[name] = {"description": "Ignored.", "type": [json_type, "null"]}
        elif name == "id":
            members[name] = {"description": "A patch ignores it.", "type": ["string", "null"]}
        elif name == "resultInfo":
            members[name] = {"anyOf": [*schema["anyOf"], _EMPTY_RESULT_INFO]}
        elif name != "@odata.type":
            members[name] = _nullable(schema) if schema.get("type") == "string" else schema
    return {"type": "object", "properties": members}


def _nullable(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}
