"""The events that a feed has stored."""

from tracker.events.feed import BEGINNING, Event, Position
from tracker.events.history import Feed


async def stored_events(feed: Feed, after: Position = BEGINNING) -> list[Event]:
    """The events after a position, as streams read them."""
    reader, found = feed.after(after), []
    while reader.more:
        for entry, text in await reader.read():
            lines = enumerate(text.split("\n"), 1)
            found += [Event.read(line) for number, line in lines if Position.of(entry, number) > after]
    return found
