"""What is wrong with a body: everything, not only the first thing."""

from dataclasses import dataclass, field

from tracker.errors import Detail, Invalid


@dataclass(slots=True)
class FieldErrors:
    """What is wrong with a body, each with its place."""

    details: list[Detail] = field(default_factory=list)

    def add(self, target: str, message: str) -> None:
        """Note one more."""
        self.details.append(Detail("badRequest", message, target))

    def raise_any(self) -> None:
        """Raise Invalid if anything is wrong."""
        if self.details:
            first = self.details[0]
            where = f"{first.target}: " if first.target else ""
            raise Invalid(f"{where}{first.message}", target=first.target or None, details=self.details)
