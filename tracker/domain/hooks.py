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

    A worker forks its processes for handlers. Threads, connections and event loops do not outlive a fork. So start them
    here, and not when the module is imported. Raises ConfigurationError for a function that takes arguments.
    """
    _hooks_of(hook, "on_start").start.append(hook)
    return hook


def on_stop(hook: HookT) -> HookT:
    """Run this function in each process for handlers, after its last handler. Use it as a decorator: `@on_stop`.

    The function takes no arguments, and may be a coroutine function. The functions of a process run in reverse order.
    After them runs what is registered with `atexit`. None of this runs in a process that crashes or is killed. Raises
    ConfigurationError for a function that takes arguments.
    """
    _hooks_of(hook, "on_stop").stop.append(hook)
    return hook


def _hooks_of(hook: Hook, name: str) -> Hooks:
    """The hooks of the module that defines this one."""
    try:
        signature(hook).bind()
    except TypeError:
        raise ConfigurationError(f"{name}: {hook!r} must take no arguments") from None
    home = sys.modules.get(getattr(hook, "__module__", None) or "")
    return Hooks() if home is None else DECLARED_HOOKS.setdefault(home, Hooks())
