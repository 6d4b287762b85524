"""Hooks: functions of a types' module that run when a process for handlers starts, and before it ends."""

import sys
from collections.abc import Callable
from inspect import signature
from types import ModuleType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tracker.errors import ConfigurationError

Hook = Callable[[], Any]
"""A function or a coroutine function without arguments. What it returns is ignored."""
HookT = TypeVar("HookT", bound=Hook)


class Hooks:
    """The hooks of some modules, in the order of their declaration."""

    def __init__(self) -> None:
        self.start: list[Hook] = []
        """They run before the first handler of a process."""
        self.stop: list[Hook] = []
        """They run in reverse order after the last handler of a process."""

    def add_all(self, other: "Hooks") -> None:
        """Add the hooks of another module that are not here yet."""
        self.start += [hook for hook in other.start if hook not in self.start]
        self.stop += [hook for hook in other.stop if hook not in self.stop]


DECLARED_HOOKS: WeakKeyDictionary[ModuleType, Hooks] = WeakKeyDictionary()
"""The hooks of each module that is loaded; see `type_modules`."""


def on_start(hook: HookT) -> HookT:
    """Run this function in each process for handlers, before its first handler. Use it as a decorator: `@on_start`.

    The function takes no arguments, and may be a coroutine function. The functions of a process run one after another,
    in the order of their declaration. If one raises, the process ends without handlers, and the worker starts another.

    A worker forks its processes for handlers. A fork copies one thread only, and a connection would be shared by all
    processes. So start threads and open connections here, and not when the module is imported. Raises
    ConfigurationError for a function that takes arguments.
    """
    _hooks_of(sys._getframe(1).f_globals["__name__"], hook).start.append(hook)  # noqa: SLF001 - the module that declares it
    return hook


def on_stop(hook: HookT) -> HookT:
    """Run this function in each process for handlers, after its last handler. Use it as a decorator: `@on_stop`.

    The function takes no arguments, and may be a coroutine function. The functions of a process run in reverse order.
    After them runs what this process has registered with `atexit`. Neither runs in a process that crashes or is killed.
    Raises ConfigurationError for a function that takes arguments.
    """
    _hooks_of(sys._getframe(1).f_globals["__name__"], hook).stop.append(hook)  # noqa: SLF001 - the module that declares it
    return hook


def _hooks_of(name: str, hook: Hook) -> Hooks:
    """The hooks of the module that declares this one. Raises ConfigurationError for a function that takes arguments."""
    try:
        signature(hook).bind()
    except TypeError:
        raise ConfigurationError(f"on_start and on_stop: {hook!r} must take no arguments") from None
    return DECLARED_HOOKS.setdefault(sys.modules[name], Hooks())
