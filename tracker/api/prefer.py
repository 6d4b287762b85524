"""The preferences of the `Prefer` header (RFC 7240) that this API knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tracker.api.headers import lines_of, preferences, whole_number

MAX_WAIT: Final = 60
"""The longest time, in seconds, that a response waits for `wait=N`."""
VARY: Final = {"Vary": "Prefer"}
"""For responses that depend on preferences: a cache must not serve them to clients with other preferences."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of one request. Unknown and invalid preferences are left out."""

    minimal: bool | None = None
    """True for `return=minimal`, False for `return=representation`."""
    strict: bool | None = None
    """True for `handling=strict`, False for `handling=lenient`."""
    respond_async: bool = False
    wait: int | None = None
    """In seconds, MAX_WAIT at most."""

    def applied_to_write(self, *others: str) -> Mapping[str, str]:
        """The header that names the preferences applied to a write: `return` and `handling`, if sent, and `others`."""
        if self.minimal is not None:
            others = (*others, "return=minimal" if self.minimal else "return=representation")
        if self.strict is not None:
            others = (*others, "handling=strict" if self.strict else "handling=lenient")
        return preference_applied(others)


NONE: Final = Preferences()


def preferences_of(request: web.BaseRequest) -> Preferences:
    """The preferences of a request."""
    return _read(lines_of(request.headers, "Prefer")) if "Prefer" in request.headers else NONE


def preference_applied(preferences: Iterable[str]) -> Mapping[str, str]:
    """The header `Preference-Applied` with these preferences; no header if there are none."""
    text = ", ".join(preferences)
    return {"Preference-Applied": text} if text else {}


def _read(lines: Sequence[str]) -> Preferences:
    found = preferences(lines)
    wait = whole_number(found.get("wait"))
    return Preferences(
        minimal={"minimal": True, "representation": False}.get(found.get("return", "").lower()),
        strict={"strict": True, "lenient": False}.get(found.get("handling", "").lower()),
        respond_async="respond-async" in found,
        wait=None if wait is None else min(wait, MAX_WAIT),
    )
