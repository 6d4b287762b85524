"""`Prefer`: what a client would like of its answer (RFC 7240), as far as this API knows it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aiohttp import web

from tracker.api.headers import preferences, whole_number

MAX_WAIT: Final = 60
"""Most seconds that `wait=N` holds an answer."""
VARY: Final = {"Vary": "Prefer"}
"""For answers that a preference changes: without it a cache would serve them to who prefers otherwise."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of one request. One that is not known here, or makes no sense, is none."""

    minimal: bool | None = None
    """`return=minimal`, or False for `return=representation`."""
    strict: bool | None = None
    """`handling=strict`, or False for `handling=lenient`."""
    respond_async: bool = False
    wait: int | None = None
    """Seconds, MAX_WAIT at most."""

    def applied(self, *more: str) -> Mapping[str, str]:
        """The header that names what was applied: of a write always `return` and `handling`, and `more`."""
        named = [*more, *_named("return", self.minimal, "minimal", "representation")]
        return applied([*named, *_named("handling", self.strict, "strict", "lenient")])


NONE: Final = Preferences()


def preferences_of(request: web.BaseRequest) -> Preferences:
    """What the request prefers."""
    return _read(tuple(request.headers.getall("Prefer"))) if "Prefer" in request.headers else NONE


def applied(preferences: Iterable[str]) -> Mapping[str, str]:
    """The header that names them; none when there is none."""
    text = ", ".join(preferences)
    return {"Preference-Applied": text} if text else {}


@lru_cache(256)
def _read(lines: tuple[str, ...]) -> Preferences:
    found = preferences(lines)
    wait = whole_number(found.get("wait"))
    return Preferences(
        minimal={"minimal": True, "representation": False}.get(found.get("return", "").lower()),
        strict={"strict": True, "lenient": False}.get(found.get("handling", "").lower()),
        respond_async="respond-async" in found,
        wait=None if wait is None else min(wait, MAX_WAIT),
    )


def _named(name: str, wish: bool | None, yes: str, no: str) -> list[str]:  # noqa: FBT001 - a wish is yes, no or none
    return [] if wish is None else [f"{name}={yes if wish else no}"]
