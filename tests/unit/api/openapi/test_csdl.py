"""`$metadata`, read by an OData library from another project."""

import re
from xml.etree import ElementTree as ET

import pytest
from odatapy.edm.model import Edm, EdmEntityType
from odatapy.edm.names import FullQualifiedName
from odatapy.edm.xml_io import XmlEdmProvider
from odatapy.errors import UriParserException
from odatapy.server.uri.parser import Parser
from odatapy.server.uri.resource import UriResourceAction, UriResourceNavigation

from tests.support.records import make_record
from tracker.api.links import Links
from tracker.api.openapi.csdl import metadata
from tracker.api.serializers import resource
from tracker.config import BUILT_IN_TYPES
from tracker.domain.operation import DONE, Operation, OperationStatus
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import OperationType, TypeRegistry

CATALOGUE = load_types([*BUILT_IN_TYPES, "examples.contoso.operations"])
DOCUMENT = metadata(CATALOGUE)
EDM = "{http://docs.oasis-open.org/odata/ns/edm}"


class Base(Operation, type="#tests.baseOperation"):
    """A base: "quotes", <angles> & \x00 what XML cannot hold."""

    size: int = 1


class Middle(Base, type="#tests.middleOperation"):
    more: int = 2


class Node(Operation, type="#tests.nodeOperation"):
    size: int
    node: "Node | None" = None


class Derived(Middle, type="#other.derivedOperation"):
    most: int = 3


def read(document: bytes) -> Edm:
    return Edm(XmlEdmProvider(document))


def entity(document: bytes, name: str) -> EdmEntityType:
    namespace, _, local = name.removeprefix("#").rpartition(".")
    found = read(document).get_entity_type(FullQualifiedName(namespace, local))
    assert found is not None, name
    return found


def registry(*models: type[Operation], names: tuple[str, ...] = ()) -> TypeRegistry:
    found = TypeRegistry()
    for model in models:
        found.add(OperationType(model.odata_type, model, None))
    for name in names:
        found.add(OperationType(name, type(name, (Operation,), {}, type=name), None))
    return found


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_registered_type_is_an_open_operation(name: str) -> None:
    found = entity(DOCUMENT, name)
    assert found.is_open_type
    assert found.key_predicate_names == ["id"]
    operation = entity(DOCUMENT, "microsoft.graph.commsOperation")
    assert found.full_qualified_name == operation.full_qualified_name or found.is_derived_from(operation)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_declared_member_of_a_type_is_a_property(name: str) -> None:
    properties = {found.name for found in entity(DOCUMENT, name).get_properties()}
    declared = {info.alias or field for field, info in CATALOGUE[name].model.model_fields.items()}
    assert declared <= properties


def test_every_member_that_an_answer_has_is_a_property() -> None:
    record = make_record(
        result_info=DONE, status=OperationStatus.COMPLETED, detail="x", not_before=1, started=1, completed=1, expires=1
    )
    members = {name for name in resource(record) if not name.startswith("@")}
    properties = {found.name for found in entity(DOCUMENT, "microsoft.graph.commsOperation").get_properties()}
    assert members <= properties


def test_every_type_that_is_referred_to_is_there() -> None:
    root = ET.fromstring(DOCUMENT)
    declared = {
        f"{schema.get('Namespace')}.{item.get('Name')}"
        for schema in root.iter(f"{EDM}Schema")
        for item in schema
        if item.tag.endswith("Type")
    }
    used = {
        match
        for item in root.iter()
        for attribute in ("Type", "BaseType")
        for match in re.findall(r"[^()]+", (item.get(attribute) or "").removeprefix("Collection"))
        if not match.startswith("Edm.")
    }
    assert len(used) >= 8
    assert used <= declared


def test_graphs_own_words_are_in_graphs_namespace() -> None:
    edm = read(DOCUMENT)
    status = edm.get_enum_type(FullQualifiedName("microsoft.graph", "operationStatus"))
    assert status is not None
    assert list(status.member_names) == [str(word) for word in OperationStatus]
    assert edm.get_complex_type(FullQualifiedName("microsoft.graph", "resultInfo")) is not None
    assert edm.get_enum_type(FullQualifiedName("microsoft.graph", "playPromptCompletionReason")) is not None


@pytest.mark.parametrize("call", ["57dab8b1", "it's", "a b/c"])
def test_the_context_of_an_answer_is_a_path_of_the_model(call: str) -> None:
    context = Links("https://example.org/v1.0").context(call)
    base, _, path = context.partition("#")
    assert base == "https://example.org/v1.0/$metadata"
    target = Parser(read(DOCUMENT)).parse_resource_path(path).resource_parts[-1]
    assert isinstance(target, UriResourceNavigation)
    assert str(target.navigation_property.type) == "microsoft.graph.commsOperation"
    assert target.navigation_property.contains_target


def test_a_path_that_is_not_there_is_no_path_of_the_model() -> None:
    with pytest.raises(UriParserException):
        Parser(read(DOCUMENT)).parse_resource_path("communications/calls('1')/jobs")


def test_a_cancel_is_an_action_of_every_operation() -> None:
    path = "communications/calls('1')/operations('2')/microsoft.graph.cancel"
    action = Parser(read(DOCUMENT)).parse_resource_path(path).resource_parts[-1]
    assert isinstance(action, UriResourceAction)
    assert action.return_type_fqn == "microsoft.graph.commsOperation"


def test_a_type_is_derived_from_the_nearest_registered_type() -> None:
    document = metadata(registry(Base, Derived))
    derived = entity(document, "#other.derivedOperation")
    assert str(derived.base_type_fqn) == "tests.baseOperation"
    assert set(derived.own_property_names) == {"more", "most"}
    assert str(entity(document, "#tests.baseOperation").base_type_fqn) == "microsoft.graph.commsOperation"


def test_a_type_may_have_members_of_its_own_kind() -> None:
    found = {
        item.name: str(item.type) for item in entity(metadata(registry(Node)), "#tests.nodeOperation").get_properties()
    }
    assert (found["size"], found["node"]) == ("Edm.Int64", "tests.node")


def test_a_namespace_without_types_of_its_own_is_graphs() -> None:
    names = [schema.namespace for schema in read(metadata(TypeRegistry())).schemas]
    assert names == ["microsoft.graph"]


def test_a_description_that_xml_cannot_hold_is_cleaned() -> None:
    assert "A base: &quot;quotes&quot;, &lt;angles&gt; &amp;  what XML" in metadata(registry(Base)).decode()


@pytest.mark.parametrize("name", ["#contoso", "#contoso..x", "#contoso.1x", "#contoso.", "#Edm.x", "#system.x"])
def test_a_name_that_odata_does_not_have_is_left_out(name: str) -> None:
    document = metadata(registry(Base, names=(name,)))
    assert {schema.namespace for schema in read(document).schemas} == {"microsoft.graph", "tests"}
