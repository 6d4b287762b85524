"""The kind of host that each type's handler needs, and the types whose operations run each in its own process."""

from tracker.domain.type_registry import TypeRegistry, canonical
from workers.host import HostKind


def kinds_of(registry: TypeRegistry) -> dict[str, HostKind]:
    """Which kind of host each type's handler needs, by the type's canonical name."""
    return {
        canonical(name): HostKind.COROUTINE if entry.is_coroutine else HostKind.FUNCTION
        for name, entry in registry.items()
        if entry.handler is not None
    }


def isolated_types(registry: TypeRegistry) -> set[str]:
    """The types that ask for a process of their own for each operation, by canonical names."""
    return {canonical(name) for name, entry in registry.items() if entry.isolate}
