"""The budgets of one API process: what tenants share of its memory and of its time."""

from typing import TYPE_CHECKING, Final

from tracker.runtime.loop_slices import LoopTurns
from tracker.runtime.shares import Shares, Tenants

if TYPE_CHECKING:
    from tracker.config import Settings


BODIES_PARSED_AT_ONCE: Final = 1
"""How many large bodies of requests are parsed at once in one process, beside the event loop."""
HISTORY_READS_AT_ONCE: Final = 4
"""How many reads of stored events are under way at once in one process, each with the work on what it has read."""


class Budgets:
    """The resources of one API process that tenants share. The settings say how large they are."""

    def __init__(self, settings: "Settings") -> None:
        self.tenants = Tenants(settings.tenant_most)
        self.answer_bytes, self.stream_bytes = settings.answer_bytes, settings.stream_bytes
        self.answers = Shares(settings.answers_bytes, self.tenants)
        """Bytes of answers that are made, or are not sent yet."""
        self.streams = Shares(settings.streams, self.tenants)
        """Open streams of events."""
        self.events = Shares(settings.streams_bytes, self.tenants)
        """Bytes of events that wait for the readers of streams."""
        self.parsed_bodies = Shares(BODIES_PARSED_AT_ONCE, self.tenants)
        self.history_reads = Shares(HISTORY_READS_AT_ONCE, self.tenants)
        self.turns = LoopTurns()
        """Turns of the event loop for those whom one event wakes: readers of streams, and requests that wait."""
        self.waits = Shares(settings.waits, self.tenants)
        """Requests that wait for a change."""
