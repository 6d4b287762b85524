"""Errors of a body's members, collected so that one response names them all."""

from dataclasses import dataclass, field

from tracker.errors import Detail, Invalid

LONGEST_TARGET = 512
"""How many characters of a member's path a response shows at most. Clients choose the names of members."""
MOST_NAMED = 100
"""How many errors of one body a response names at most. A body of a megabyte can have a hundred thousand."""


@dataclass(slots=True)
class FieldErrors:
    """The errors found in a body so far."""

    details: list[Detail] = field(default_factory=list)
    unnamed: int = 0
    """How many errors were found after the first MOST_NAMED."""

    def add(self, target: str, message: str) -> None:
        """Add an error. `target` is the JSON path of the member; "" is the body as a whole."""
        if len(self.details) < MOST_NAMED:
            self.details.append(Detail("badRequest", message, target[:LONGEST_TARGET]))
        else:
            self.unnamed += 1

    def raise_any(self) -> None:
        """Raise Invalid with all errors, if there are any. The first error is its message."""
        if self.details:
            first = self.details[0]
            if self.unnamed:
                more = f"{self.unnamed} more errors are not named here"
                self.details.append(Detail("badRequest", more, ""))
            where = f"{first.target}: " if first.target else ""
            raise Invalid(f"{where}{first.message}", target=first.target or None, details=self.details)
