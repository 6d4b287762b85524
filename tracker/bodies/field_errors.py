"""Errors of a body's members, collected so that one response names them all."""

from dataclasses import dataclass, field

from tracker.errors import Detail, Invalid


@dataclass(slots=True)
class FieldErrors:
    """The errors found in a body so far."""

    details: list[Detail] = field(default_factory=list)

    def add(self, target: str, message: str) -> None:
        """Add an error. `target` is the JSON path of the member; "" is the body as a whole."""
        self.details.append(Detail("badRequest", message, target))

    def raise_any(self) -> None:
        """Raise Invalid with all errors, if there are any. The first error is its message."""
        if self.details:
            first = self.details[0]
            where = f"{first.target}: " if first.target else ""
            raise Invalid(f"{where}{first.message}", target=first.target or None, details=self.details)
