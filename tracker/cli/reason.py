"""A reason: one of the sentences of `tracker why`."""

from dataclasses import dataclass
from typing import Any

from tracker.domain.operation import Json
from tracker.maintenance.diagnosis import Waiting


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason.

    `word` names it for programs and does not change. `text` is for people. `facts`: the numbers in `text`.
    """

    word: str
    text: str
    facts: Json

    def as_json(self) -> Json:
        """The reason as `--output json` prints it."""
        return {"reason": self.word, "text": self.text, **self.facts}


def reason(word: str, text: str, **facts: Any) -> Reason:
    """Make a reason."""
    return Reason(word, text, facts)


def place_of(waiting: Waiting) -> str:
    """A position in words."""
    return f"at place {waiting.before + 1} of {waiting.among}"


def numbers_of(waiting: Waiting) -> Json:
    """A position as facts of a reason."""
    return {"position": waiting.before + 1, "among": waiting.among}
