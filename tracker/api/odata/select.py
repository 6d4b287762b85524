"""`$select`: which members of an operation an answer has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from tracker.api.odata.tokens import malformed
from tracker.domain.operation import Json
from tracker.errors import NotSupported

SELECT: Final = "$select"

_NAME: Final = re.compile(r"\*|@?[^\W\d][\w.]*(?:/[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Selection:
    """Members by name, of which some may have parts; all for `*`. Control information (`@odata.…`) is always there."""

    members: Mapping[str, tuple[str, ...] | None]
    """Each member's parts; None for the whole of it."""
    everything: bool

    def of(self, resource: Json) -> Json:
        """What it leaves of an operation. A member that the operation does not have is left out."""
        if self.everything:
            return resource
        chosen: Json = {}
        for name, value in resource.items():
            if name.startswith("@odata."):
                chosen[name] = value
            elif name in self.members:
                chosen[name] = _parts(value, self.members[name])
        return chosen

    def context(self, url: str) -> str:
        """A collection's `@odata.context`, saying what is selected (OData 4.01, part 1, 10.8)."""
        if self.everything:
            return url
        names = [
            name if parts is None else f"{name}/{part}"
            for name, parts in self.members.items()
            for part in parts or ("",)
        ]
        return f"{url}({quote(','.join(names), safe=',/@*')})"


ALL: Final = Selection({}, everything=True)


@lru_cache(128)
def parse_select(text: str) -> Selection:
    """Read a `$select`. Raises Invalid with the position, or NotSupported for options of a member."""
    members: dict[str, tuple[str, ...] | None] = {}
    start = 1
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
    name, _, part = path.partition("/")
    known = members.get(name, ())
    if not part or known is None:
        members[name] = None
    elif part not in known:
        members[name] = (*known, part)


def _parts(value: object, parts: tuple[str, ...] | None) -> object:
    """A member, or what is chosen of a complex one: its control information and its parts, as deep as paths go."""
    if parts is None or not isinstance(value, dict):
        return value
    below: dict[str, tuple[str, ...] | None] = {}
    for part in parts:
        _add(below, part)
    return Selection(below, everything=False).of(value)
