"""Garbage collection of an API process, in steps that are too short for clients to notice.

A collection stops the process while it looks at all objects of its generation. With 10,000 requests that wait, a full
collection takes a second, and Python runs one every few seconds. Python also runs too few young collections: the
counter that starts them goes down for every old object that is freed, so the counter hardly grows while requests come
and go. Requests that wait leave no cycles behind. Objects that do, such as the traceback of an error, become garbage
while they are young. `make bench-waits` measures the time for which the process stops.
"""

import asyncio
import gc
from typing import Final

YOUNG_INTERVAL: Final = 0.2
"""The time in seconds between two collections of young objects, each of which takes a millisecond or two."""
YOUNG_PER_FULL: Final = 9000
"""The number of young collections after which a full one follows: half an hour."""


async def collect_regularly() -> None:
    """Collect young objects often and all objects rarely, but never those that exist now. Runs until cancelled."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        while True:
            for _ in range(YOUNG_PER_FULL):
                await asyncio.sleep(YOUNG_INTERVAL)
                gc.collect(1)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
