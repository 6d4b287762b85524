"""Running the hooks of types' modules in a host."""

import asyncio
import atexit
from inspect import isawaitable

import structlog

from tracker.domain.hooks import Hook, Hooks
from workers.handler_call import flush_streams

log = structlog.get_logger()


async def run_start_hooks(hooks: Hooks) -> None:
    """Run the hooks before the first handler. Raises what a hook raises: the host must not run handlers then."""
    for hook in hooks.start:
        await _run(hook)


async def run_stop_hooks(hooks: Hooks) -> None:
    """Run the hooks after the last handler, in reverse order. An error is logged, and the next hook runs."""
    for hook in reversed(hooks.stop):
        try:
            await _run(hook)
        except Exception:
            log.exception("stop_hook_failed", hook=_name(hook))


def run_exit_functions() -> None:
    """Run what this process has registered with `atexit`. Hosts end by `os._exit`, which does not run it."""
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way without ending the process
    flush_streams()


class FunctionHooks:
    """Runs the hooks in a host of functions, which has no event loop. Coroutines get a loop that only hooks use."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._runner = asyncio.Runner()

    def start(self) -> None:
        """Run the hooks before the first function. Raises what a hook raises."""
        if self._hooks.start:
            self._runner.run(run_start_hooks(self._hooks))

    def stop(self) -> None:
        """Run the hooks after the last function, and what is registered with `atexit`."""
        if self._hooks.stop:
            self._runner.run(run_stop_hooks(self._hooks))
        run_exit_functions()


async def _run(hook: Hook) -> None:
    returned = hook()
    if isawaitable(returned):
        await returned


def _name(hook: Hook) -> str:
    return f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', hook)}"
