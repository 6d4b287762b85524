"""`make chaos`: load and faults for minutes, then a verdict. `python -m chaos --help` shows how to replay a seed."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import aiohttp

from chaos import plan as plans
from chaos import report
from chaos.clients import Client, Ledger
from chaos.faults import Faults
from chaos.journal import ANSWERS, EVENTS, Journal
from chaos.load import Load
from chaos.plan import Plan
from chaos.stack import APIS, READY_WITHIN, SHIFTS, running

SAY_EVERY = 10.0
POLL = 0.1


async def run(plan: Plan, directory: Path) -> None:
    """Do what the plan says; everything that happened is in the directory's journals then.

    Raises TimeoutError when the processes do not get to work.
    """
    ledger = Ledger(Journal(directory / ANSWERS))
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(running(directory))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = Client(session, processes.urls, ledger)
        load, faults = Load(client, plan), Faults(processes, plan)
        pollers = [asyncio.create_task(load.poll(api)) for api in range(len(APIS))]
        try:
            await asyncio.wait_for(load.begin(), READY_WITHIN)
            await _trouble(plan, load, faults, ledger)
            Journal(directory / EVENTS).write(event="stopped", t=monotonic())
            await _all_end(plan, ledger)
        finally:
            await _cancel(*pollers)
            await faults.end()
            await load.close()
        for call in ledger.calls:
            for api in range(len(APIS)):
                await client.look(call, api)
    ledger.close()


async def _trouble(plan: Plan, load: Load, faults: Faults, ledger: Ledger) -> None:
    """Load and faults at once, for as long as the plan says, and until both have come to rest."""
    begun = monotonic()
    work = [asyncio.create_task(load.run()), asyncio.create_task(faults.run())]
    try:
        while (left := begun + plan.seconds - monotonic()) > 0:
            done, _ = await asyncio.wait(work, timeout=min(left, SAY_EVERY), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            _say(f"{monotonic() - begun:.0f} s: {faults.done} faults", ledger)
    finally:
        await _cancel(*work)
    await faults.end()
    await load.finish()


async def _all_end(plan: Plan, ledger: Ledger) -> None:
    """Wait until every operation is known to have ended, or the time for that is over."""
    begun = monotonic()
    while ledger.open and monotonic() < begun + plan.within:  # noqa: ASYNC110 - many things change it
        await asyncio.sleep(POLL)
    _say(f"{monotonic() - begun:.1f} s after the last fault", ledger)


def _say(what: str, ledger: Ledger) -> None:
    accepted, left = ledger.counts
    print(f"{what}, {accepted} operations accepted, {left} of them not known to have ended", flush=True)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def main() -> int:
    """Run, judge, and say how to do the same again. Returns the exit code: 0 when no rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="replays the load and the faults")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--short", action="store_true", help="the form that the tests run: a quarter of a minute")
    parser.add_argument("--directory", type=Path, help="where to keep the journals; else kept only on failure")
    options = parser.parse_args()
    plan = plans.short(options.seed) if options.short else plans.long(options.seed, options.minutes)
    directory = options.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    form = "--short" if options.short else f"--minutes {options.minutes:g}"
    shifts = ", ".join(f"{name} by {shift:+g} s" for name, shift in SHIFTS.items())
    print(f"seed {plan.seed}: python -m chaos --seed {plan.seed} {form}; clocks are off: {shifts}", flush=True)
    directory.mkdir(exist_ok=True, parents=True)
    asyncio.run(run(plan, directory))
    well = report.main(directory, within=plan.within, complete=plan.complete)
    if well and options.directory is None:
        shutil.rmtree(directory)
    else:
        print(f"journals and the processes' output: {directory}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
