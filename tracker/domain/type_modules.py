"""Loading the modules that declare operation types."""

import sys
from collections.abc import Iterable
from importlib import __file__ as import_file
from importlib import import_module
from pathlib import Path
from traceback import extract_tb

from tracker.domain.hooks import DECLARED_HOOKS
from tracker.domain.type_registry import (
    DECLARED,
    Handler,
    OperationType,
    TypeRegistry,
    current_registry,
    module_of,
)
from tracker.errors import ConfigurationError


def load_types(modules: Iterable[str]) -> TypeRegistry:
    """Import modules, and return the current registry with the types that they declare.

    Raises ConfigurationError for a module that does not load, with the file and line of the error, and for a module
    that declares no type with a handler.
    """
    registry = current_registry()
    for module in modules:
        try:
            import_module(module)
        except ConfigurationError as error:
            raise ConfigurationError(f"TRACKER_TYPES: {module}: {error.message}{_place(error)}") from error
        except Exception as error:
            raise ConfigurationError(f"TRACKER_TYPES: {module} does not load: {error!r}{_place(error)}") from error
        for entry in _declared_in(module):
            if entry.name not in registry:  # the module was imported before this registry was made
                registry.add(entry)
        _add_hooks(registry, module)
        if not any(_within(module, entry.handler) for entry in registry.values()):
            raise ConfigurationError(f"TRACKER_TYPES: {module} declares no operation type with a handler (@handles)")
    return registry


def _add_hooks(registry: TypeRegistry, module: str) -> None:
    """Add the hooks of a module, and those of the modules that define the handlers which it declares."""
    homes = {module, *(module_of(entry.handler) for entry in _declared_in(module))}
    for home, hooks in list(DECLARED_HOOKS.items()):
        if home.__name__ in homes or home.__name__.startswith(f"{module}."):
            registry.hooks.add_all(hooks)


def _declared_in(module: str) -> list[OperationType]:
    """The types that a module declares, itself or in modules below it, or imports by name from other modules."""
    return [
        entry
        for types in DECLARED.values()
        for entry in types.values()
        if _is_home(module, entry.handler)
        or getattr(sys.modules[module], _name(entry.handler), None) in (entry.handler, entry.model)
    ]


def _within(module: str, handler: Handler | None) -> bool:
    return _is_home(module, handler) or hasattr(sys.modules[module], _name(handler))


def _is_home(module: str, handler: Handler | None) -> bool:
    home = module_of(handler)
    return home == module or home.startswith(f"{module}.")


def _name(handler: Handler | None) -> str:
    return getattr(handler, "__name__", "")


_HERE = str(Path(__file__).parents[1])


def _place(error: BaseException) -> str:
    """Where a module's own code raised: the innermost frame that is not the import machinery's, nor ours."""
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(_HERE) and frame.filename != import_file]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
