"""Parser of `$select`, and the choice of the members of an operation that a response shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from tracker.api.odata.tokens import malformed
from tracker.domain.operation import Json
from tracker.errors import NotSupported

SELECT: Final = "$select"

_NAME: Final = re.compile(r"\*|@?[^\W\d][\w.]*(?:/[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Selection:
    """The members of an operation that a response shows. It always shows control information (`@odata.…`)."""

    members: Mapping[str, tuple[str, ...] | None]
    """Each selected member by name, with the paths of its selected parts. None: the whole member."""
    everything: bool
    """Whether all members are selected: there is no `$select`, or it contains `*`."""

    def of(self, resource: Json) -> Json:
        """The selected members of a resource. A selected member that the resource does not have is left out."""
        if self.everything:
            return resource
        selected: Json = {}
        for name, value in resource.items():
            if name.startswith("@odata."):
                selected[name] = value
            elif name in self.members:
                selected[name] = _parts(value, self.members[name])
        return selected

    def context(self, url: str) -> str:
        """The `@odata.context` of a collection, with the selection added (OData 4.01, part 1, 10.8)."""
        if self.everything:
            return url
        names = [
            name if parts is None else f"{name}/{part}"
            for name, parts in self.members.items()
            for part in parts or ("",)
        ]
        return f"{url}({quote(','.join(names), safe=',/@*')})"


ALL: Final = Selection({}, everything=True)


def parse_select(text: str) -> Selection:
    """Parse the value of `$select`.

    Raises Invalid with the position of the mistake. Raises NotSupported for options of a member, such as
    `resultInfo($select=code)`.
    """
    members: dict[str, tuple[str, ...] | None] = {}
    start = 1  # messages count positions from 1
    for item in text.split(","):
        name, rest = re.findall(r"\s*([^\s(]*)\s*(.*)", item, re.DOTALL)[0]
        position = start + item.find(name or rest)
        if not _NAME.fullmatch(name):
            raise malformed(SELECT, "expected a member's name", position)
        if rest.startswith("("):
            message = f"{SELECT}: options of a member (at position {position}) are not supported."
            raise NotSupported(message, target=SELECT)
        if rest:
            raise malformed(SELECT, "expected a comma or the end", start + len(item) - len(rest))
        _add(members, name)
        start += len(item) + 1
    return Selection(members, everything="*" in members)


def _add(members: dict[str, tuple[str, ...] | None], path: str) -> None:
    """Add a path, such as `id` or `resultInfo/code`, to the selected members."""
    name, _, part = path.partition("/")
    selected_parts = members.get(name, ())
    if not part or selected_parts is None:
        members[name] = None
    elif part not in selected_parts:
        members[name] = (*selected_parts, part)


def _parts(value: object, parts: tuple[str, ...] | None) -> object:
    """The selected parts of a member's value. A path such as `resultInfo/code` selects a part of a part."""
    if parts is None or not isinstance(value, dict):
        return value
    members: dict[str, tuple[str, ...] | None] = {}
    for part in parts:
        _add(members, part)
    return Selection(members, everything=False).of(value)
