"""OData metadata of the registered types, as CSDL XML 4.0."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tracker.api.openapi.edm import IDENTIFIER, Enumeration, Namespace, Property, Reader, Structure
from tracker.api.openapi.texts import SCHEMAS
from tracker.api.openapi.type_schemas import schema_of
from tracker.domain.operation import Operation
from tracker.domain.type_registry import COMMS_OPERATION, OperationType, TypeRegistry, canonical

GRAPH: Final = "microsoft.graph"
BASE: Final = COMMS_OPERATION.removeprefix("#")

_RESERVED: Final = frozenset({"edm", "odata", "system", "transient"})
"""Namespaces that no service may define (CSDL 4.0, 5.1.1)."""
_GRAPH_NAMES: Final = ("entity", "cloudCommunications", "call", "commsOperation", "cancel", "GraphService")
_REQUIRED: Final = ("status", "createdDateTime", "lastActionDateTime", "attempt")
"""Members that every operation has."""
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow (XML 1.0, 2.2)."""
_CORE: Final = "Org.OData.Core.V1"
_CORE_ADDRESS: Final = f"https://oasis-tcs.github.io/odata-vocabularies/vocabularies/{_CORE}.xml"


def metadata(registry: TypeRegistry) -> bytes:
    """The document. It leaves out types whose names are not OData names, such as `#contoso` and `#contoso..x`."""
    root = Element("edmx:Edmx", {"Version": "4.0", "xmlns:edmx": "http://docs.oasis-open.org/odata/ns/edmx"})
    reference = SubElement(root, "edmx:Reference", {"Uri": _CORE_ADDRESS})
    SubElement(reference, "edmx:Include", {"Namespace": _CORE})
    services = SubElement(root, "edmx:DataServices")
    types = {canonical(name): entry for name, entry in registry.items() if _is_describable(name)}
    names = dict.fromkeys([GRAPH, *(_split(entry.name)[0] for entry in types.values())])
    for name in names:
        own_types = [entry for entry in types.values() if _split(entry.name)[0] == name]
        services.append(_schema(Namespace(name), own_types, types))
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _is_describable(name: str) -> bool:
    parts = name.removeprefix("#").split(".")
    reserved = ".".join(parts[:-1]).lower() in _RESERVED
    return len(parts) > 1 and not reserved and all(IDENTIFIER.fullmatch(part) for part in parts)


def _split(name: str) -> tuple[str, str]:
    namespace, _, local = name.removeprefix("#").rpartition(".")
    return namespace, local


def _schema(namespace: Namespace, own_types: list[OperationType], types: dict[str, OperationType]) -> Element:
    """The Schema element of a namespace.

    Making the operation types adds their enumerations and complex types to `namespace.types`. So these are appended
    after the operation types are made.
    """
    schema = Element("Schema", {"Namespace": namespace.name, "xmlns": "http://docs.oasis-open.org/odata/ns/edm"})
    # Graph's names and those of the operation types are taken first, so that a complex type gets another name.
    for name in (*_GRAPH_NAMES, *(_split(entry.name)[1] for entry in own_types)):
        namespace.claim(name, f"#{name}")
    entities = [*(_service(namespace) if namespace.name == GRAPH else ())]
    entities += [
        _operation_type(namespace, entry, types) for entry in own_types if canonical(entry.name) != canonical(BASE)
    ]
    for name, kind in namespace.types.items():
        schema.append(_enumeration(name, kind) if isinstance(kind, Enumeration) else _complex(name, kind))
    schema.extend(entities)
    if namespace.name == GRAPH:
        schema.extend(_actions_and_container())
    return schema


def _service(namespace: Namespace) -> Iterator[Element]:
    """The entity types on Graph's path to an operation: `communications/calls('…')/operations`."""
    entity = Element("EntityType", {"Name": "entity", "Abstract": "true"})
    SubElement(SubElement(entity, "Key"), "PropertyRef", {"Name": "id"})
    SubElement(entity, "Property", {"Name": "id", "Type": "Edm.String", "Nullable": "false", "MaxLength": "128"})
    yield entity
    for name, navigation, target in (
        ("cloudCommunications", "calls", "call"),
        ("call", "operations", "commsOperation"),
    ):
        element = _entity(name, f"{GRAPH}.entity")
        collection = {"Name": navigation, "Type": f"Collection({GRAPH}.{target})", "ContainsTarget": "true"}
        SubElement(element, "NavigationProperty", collection)
        yield element
    base = SCHEMAS["anyOperation"]
    members = {name: member for name, member in base["properties"].items() if name != "id"}
    operation = _entity("commsOperation", f"{GRAPH}.entity", base["description"])
    reader = Reader(namespace, "comms", SCHEMAS)
    operation.extend(map(_property, reader.properties({"properties": members, "required": _REQUIRED})))
    yield operation


def _actions_and_container() -> Iterator[Element]:
    action = Element("Action", {"Name": "cancel", "IsBound": "true"})
    SubElement(action, "Parameter", {"Name": "operation", "Type": BASE, "Nullable": "false"})
    SubElement(action, "Parameter", {"Name": "reason", "Type": "Edm.String", "MaxLength": "256"})
    SubElement(action, "ReturnType", {"Type": BASE, "Nullable": "false"})
    yield action
    container = Element("EntityContainer", {"Name": "GraphService"})
    SubElement(container, "Singleton", {"Name": "communications", "Type": f"{GRAPH}.cloudCommunications"})
    yield container


def _operation_type(namespace: Namespace, entry: OperationType, types: dict[str, OperationType]) -> Element:
    """The entity type of an operation type, with the members that its base type does not have."""
    parent = next((types[name] for name in map(canonical, _ancestry(entry.model)) if name in types), None)
    name = _split(entry.name)[1]
    schema = schema_of(entry)
    base = schema_of(parent) if parent else schema_of(OperationType(BASE, Operation, None))
    members = {name: member for name, member in schema["properties"].items() if name not in base["properties"]}
    element = _entity(name, parent.name.removeprefix("#") if parent else BASE, cleandoc(entry.model.__doc__ or ""))
    reader = Reader(namespace, name.removesuffix("Operation"), schema.get("$defs", {}))
    element.extend(map(_property, reader.properties({**schema, "properties": members})))
    return element


def _ancestry(model: type[Operation]) -> Iterator[str]:
    return (base.odata_type for base in model.__mro__[1:] if issubclass(base, Operation))


def _entity(name: str, base: str, description: str = "") -> Element:
    element = Element("EntityType", {"Name": name, "BaseType": base, "OpenType": "true"})
    _describe(element, description)
    return element


def _complex(name: str, structure: Structure) -> Element:
    element = Element("ComplexType", {"Name": name, **({"OpenType": "true"} if structure.open else {})})
    _describe(element, structure.description)
    element.extend(map(_property, structure.properties))
    return element


def _enumeration(name: str, enumeration: Enumeration) -> Element:
    element = Element("EnumType", {"Name": name})
    for value, member in enumerate(enumeration.members):
        SubElement(element, "Member", {"Name": member, "Value": str(value)})
    return element


def _property(item: Property) -> Element:
    element = Element("Property", {"Name": item.name, "Type": item.type})
    if not item.nullable:
        element.set("Nullable", "false")
    if item.max_length is not None:
        element.set("MaxLength", str(item.max_length))
    if item.type.endswith(("DateTimeOffset", "DateTimeOffset)")):
        element.set("Precision", "6")
    if item.computed:
        SubElement(element, "Annotation", {"Term": f"{_CORE}.Computed", "Bool": "true"})
    _describe(element, item.description)
    return element


def _describe(element: Element, text: str) -> None:
    if text:
        SubElement(element, "Annotation", {"Term": f"{_CORE}.Description", "String": _NOT_XML.sub("", text)})
