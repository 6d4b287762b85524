"""Garbage collection of an API process, in steps that are too short for clients to notice.

A collection stops the process while it looks at all objects of its generation. With 10,000 requests that wait, a full
collection takes a second, and Python runs one every few seconds. Python also runs too few young collections: the
counter that starts them goes down for every old object that is freed, so the counter hardly grows while requests come
and go. Requests leave no cycles behind, not even if their clients abort them: `connection` breaks those cycles. So a
full collection seldom finds anything, and can wait until few clients are connected. `make bench-waits` measures the
time for which the process stops.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

YOUNG_INTERVAL: Final = 0.2
"""The time in seconds between two collections of young objects, each of which takes a millisecond or two."""
YOUNG_PER_FULL: Final = 9000
"""The number of young collections after which a full one follows: half an hour."""
MOST_PUT_OFF: Final = 11
"""How many full collections in a row are put off at most. So there is one in six hours, whatever happens."""


async def collect_regularly(is_busy: Callable[[], bool]) -> None:
    """Collect young objects often and all objects rarely, but never those that exist now. Runs until cancelled.

    While the process `is_busy`, so that a full collection would stop it for long, the collection is put off.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    put_off = 0
    try:
        while True:
            for _ in range(YOUNG_PER_FULL):
                await asyncio.sleep(YOUNG_INTERVAL)
                gc.collect(1)
            put_off = put_off + 1 if is_busy() and put_off < MOST_PUT_OFF else 0
            if not put_off:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
