"""The YAML files of texts and schemas of the OpenAPI description."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tracker.api.openapi import texts
from tracker.api.openapi.document import describe
from tracker.api.openapi.texts import COMMON_PARAMETERS, HEADERS, PARAMETERS, ROUTE_TEXTS, SCHEMAS
from tracker.api.routes import ROUTES
from tracker.config import BUILT_IN_TYPES
from tracker.domain.type_modules import load_types

FILES = sorted((Path(texts.__file__).parent / "description").glob("*.yaml"))


def _keys(node: yaml.Node | None, path: str = "") -> Iterator[str]:
    """The path of every key in a file, as often as the file has the key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{path}/{key.value}"
            yield from _keys(value, f"{path}/{key.value}")
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _keys(item, f"{path}/{number}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_key_of_a_file_is_there_twice(path: Path) -> None:
    """PyYAML takes the last of several equal keys, and says nothing."""
    keys = list(_keys(yaml.compose(path.read_text(), yaml.SafeLoader)))
    assert keys
    assert len(keys) == len(set(keys))


def test_every_parameter_is_used_by_a_route() -> None:
    used = [*COMMON_PARAMETERS, *(parameter for text in ROUTE_TEXTS.values() for parameter in text.parameters)]
    assert [name for name, parameter in PARAMETERS.items() if parameter not in used] == []


def test_every_header_and_every_schema_is_referred_to() -> None:
    description = str(describe(ROUTES, load_types(BUILT_IN_TYPES)))
    assert [name for name in HEADERS if f"#/components/headers/{name}'" not in description] == []
    assert [name for name in SCHEMAS if f"#/components/schemas/{name}'" not in description] == []


def test_a_placeholder_without_a_value_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("limit: <<limit>>\ntext: At most <<limit>>.\n")
    monkeypatch.setattr(texts, "_FOLDER", tmp_path)
    assert texts._read("some.yaml", limit=9) == {"limit": 9, "text": "At most 9."}
    with pytest.raises(KeyError):
        texts._read("some.yaml")
