"""The kinds of values that settings have, and how a setting is shown in docs/configuration.md."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

DAY: Final = 86400.0
KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Shown:
    """Parts of a setting's row in docs/configuration.md: a unit beside its type, a text in place of its default."""

    unit: str = ""
    default: str = ""


def words(text: str) -> tuple[str, ...]:
    """The words of a list that commas or line ends separate."""
    return tuple(word.strip() for word in re.split(r"[,\n]", text) if word.strip())


def _split(value: object) -> object:
    return words(value) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Seconds = Annotated[float, Shown(unit="seconds")]
Bytes = Annotated[int, Shown(unit="bytes")]
