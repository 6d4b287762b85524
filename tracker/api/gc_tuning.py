"""Garbage collections that hold nobody up.

A collection stops everything for as long as it takes to look at what it collects. With 10,000 held requests a full one
takes a second; left to itself, it comes every few seconds. So does a long one of the young generations: the counter
that starts them goes down for every old object that is freed, so where requests come and go nothing starts them until
there is much to look at. Held requests leave no cycles behind; what does, such as an error's traceback, dies young.
"""

import asyncio
import gc
from typing import Final

EVERY: Final = 0.2
"""Seconds between two looks at what is new since, which take a millisecond or two."""
FULL_AFTER: Final = 9000
"""Such looks after which everything is looked at: half an hour."""


async def collect() -> None:
    """Collect what is young often, everything rarely, and what there is now never; until cancelled."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        while True:
            for _ in range(FULL_AFTER):
                await asyncio.sleep(EVERY)
                gc.collect(1)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
