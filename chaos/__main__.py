"""Command line of the chaos harness: it runs load and faults for some minutes, then checks the journals of the run."""

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

from chaos import hostile, report
from chaos import plan as plans
from chaos.clients import Client, Ledger
from chaos.faults import Faults
from chaos.journal import ANSWERS, EVENTS, Journal
from chaos.load import Load
from chaos.plan import Plan
from chaos.stack import APIS, READY_WITHIN, SHIFTS, running
from tracker.runtime.background import beside

REPORT_EVERY = 10.0
"""Seconds between two lines of progress at most."""
POLL = 0.1
"""Seconds between two checks whether all operations have ended."""


async def run(plan: Plan, directory: Path) -> None:
    """Run the plan. Afterwards the journals in `directory` hold everything that happened.

    Raises TimeoutError when the processes do not become ready in time.
    """
    ledger = Ledger(Journal(directory / ANSWERS))
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(running(directory))
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=hostile.authorization("load")))
        client = Client(session, processes.urls, ledger)
        load, faults = Load(client, plan), Faults(processes, plan)
        pollers = [asyncio.create_task(load.poll(api)) for api in range(len(APIS))]
        try:
            await asyncio.wait_for(load.begin(), READY_WITHIN)
            async with beside(hostile.flood(processes.urls), hostile.attack(processes.urls, plan.seed)):
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
    """Run load and faults at the same time for the length of the plan, then wait until both have finished."""
    begun = monotonic()
    work = [asyncio.create_task(load.run()), asyncio.create_task(faults.run())]
    try:
        while (left := begun + plan.seconds - monotonic()) > 0:
            done, _ = await asyncio.wait(work, timeout=min(left, REPORT_EVERY), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            _say(f"{monotonic() - begun:.0f} s: {faults.done} faults", ledger)
    finally:
        await _cancel(*work)
    await faults.end()
    await load.finish()


async def _all_end(plan: Plan, ledger: Ledger) -> None:
    """Wait until every operation is known to have ended, for `plan.within` seconds at most."""
    begun = monotonic()
    while ledger.open and monotonic() < begun + plan.within:  # noqa: ASYNC110 - several tasks change the ledger
        await asyncio.sleep(POLL)
    _say(f"{monotonic() - begun:.1f} s after the last fault", ledger)


def _say(when: str, ledger: Ledger) -> None:
    accepted, left = ledger.counts
    print(f"{when}, {accepted} operations accepted, {left} of them not known to have ended", flush=True)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def main() -> int:
    """Run, check the journals and print how to repeat the run. Returns the exit code: 0 when no rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="seed of the load and of the faults (random)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="length of load and faults in minutes (10)")
    parser.add_argument("--short", action="store_true", help="14 seconds of load and faults, as in the test suite")
    parser.add_argument(
        "--directory", type=Path, help="directory of the journals (a new one, removed unless a rule was broken)"
    )
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
