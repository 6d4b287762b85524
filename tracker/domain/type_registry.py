"""The registry of operation types: `@odata.type` → class, handler, policy. `handles` adds to the current one."""

import math
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import iscoroutinefunction, signature
from types import ModuleType
from typing import Any, Protocol, TypeVar, Unpack
from weakref import WeakKeyDictionary

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from tracker import json_codec
from tracker.domain.operation import MESSAGE_LIMIT, REJECTED_CODE, Json, Operation, ResultInfo
from tracker.domain.policy import Policy, PolicyOptions, read_policy
from tracker.durations import Duration, seconds
from tracker.errors import ConfigurationError, Detail, Invalid

COMMS_OPERATION = "#microsoft.graph.commsOperation"

OperationT = TypeVar("OperationT", bound=Operation)
Exceptions = Collection[type[BaseException]]
Handler = Callable[[Any, "Context"], Awaitable[ResultInfo | None] | ResultInfo | None]
HandlerT = TypeVar("HandlerT", bound=Handler)


class Rejected(Exception):
    """Raised by a handler: the operation's input is not acceptable; it fails and is not tried again."""

    def __init__(self, message: str, subcode: int = 1, *, code: int = REJECTED_CODE) -> None:
        super().__init__(message)
        self.result = ResultInfo(code=code, subcode=subcode, message=message[:MESSAGE_LIMIT])


class Retry(Exception):
    """Raised by a handler: try again, `after` that long if given, else by the type's backoff.

    The attempt is charged: after the type's last attempt the operation fails with 500/1.
    """

    def __init__(
        self, message: str = "The handler asked for another attempt.", *, after: Duration | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.after = None if after is None else seconds(after)
        if self.after is not None and not 0 <= self.after < math.inf:
            raise ConfigurationError(f"Retry(after={after!r}): must be a finite time, not negative")


class Context(Protocol):
    """What a handler is given beside its operation."""

    @property
    def operation_id(self) -> str:
        """The operation's public id."""

    @property
    def call_id(self) -> str:
        """The call it belongs to."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of one operation: hand it to the systems the handler calls."""

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for a cancel; a handler that polls may end early."""

    def progress(self, percent: float | None = None, detail: str = "") -> Awaitable[None]:
        """Report progress: `percent` 0–100, never falling within an attempt, and a short text.

        A coroutine handler awaits it; a plain function just calls it. At most four reports a second are
        stored, the latest wins.
        """


@dataclass(frozen=True, slots=True)
class OperationType:
    """One entry of the registry."""

    name: str
    model: type[Operation]
    handler: Handler | None
    declared: Policy = field(default_factory=Policy)
    retry_on: tuple[type[BaseException], ...] = ()
    never_retry: tuple[type[BaseException], ...] = ()
    _policies: dict[tuple[float, float], Policy] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def is_coroutine(self) -> bool:
        """Whether the handler is awaited, rather than called."""
        return iscoroutinefunction(self.handler)

    def policy(self, *, retention: float, tombstone: float) -> Policy:
        """Resolve what is stored with a new operation. Durations in seconds. Operations of one type share it."""
        policy = self._policies.get((retention, tombstone))
        if policy is None:
            policy = self._policies[retention, tombstone] = replace(
                self.declared,
                retention=retention,
                tombstone=tombstone,
                canceled=self.model.canceled_result,
                canceled_members=dict(self.model.canceled_members),
            )
        return policy

    def validate(self, members: Json) -> Json:
        """Judge the members a client sent and fill in the type's defaults.

        Raises Invalid with a detail per wrong member. What the client sent is kept letter by letter.
        """
        if _judges_nothing(self.model):
            return members
        try:
            operation = self.model.model_validate_json(
                json_codec.encode(members), strict=True, by_alias=True, by_name=False
            )
        except ValidationError as error:
            details = [_detail(item["loc"], item["msg"]) for item in error.errors(include_url=False)]
            first = details[0]
            raise Invalid(f"{first.target}: {first.message}", target=first.target, details=details) from None
        missing = _with_defaults(self.model) - operation.model_fields_set
        if not missing:
            return members
        defaults = operation.model_dump(mode="json", by_alias=True, include=set(missing))
        return {**{name: value for name, value in defaults.items() if value is not None}, **members}


@cache
def _judges_nothing(model: type[Operation]) -> bool:
    """Whether any members will do: the type declares none of its own, and has no rule for others."""
    own = model.__mro__[: model.__mro__.index(Operation)]
    return (
        not any(vars(base).get("__annotations__") for base in own)
        and model.__pydantic_decorators__ == Operation.__pydantic_decorators__
        and not model.__pydantic_custom_init__
        and model.model_config == Operation.model_config
        and model.model_post_init is Operation.model_post_init
        and not any("__get_pydantic_core_schema__" in vars(base) for base in own)
    )


@cache
def _with_defaults(model: type[Operation]) -> frozenset[str]:
    """The members of a type that have a default of their own."""
    declared = {name for name, info in model.model_fields.items() if info.default is not PydanticUndefined}
    return frozenset(declared - {"client_context"})


class TypeRegistry(Mapping[str, OperationType]):
    """Operation types by name; a name is found in any case, with or without its `#`."""

    def __init__(self) -> None:
        self._types: dict[str, OperationType] = {}

    def add(self, entry: OperationType) -> None:
        """Register a type. The same class again (a module loaded twice) replaces itself.

        Raises ConfigurationError when another class has the name.
        """
        known = self._types.get(canonical(entry.name))
        if known is not None and known.model.__qualname__ != entry.model.__qualname__:
            raise ConfigurationError(f"two classes claim {entry.name}: {known.model!r} and {entry.model!r}")
        self._types[canonical(entry.name)] = entry

    def __getitem__(self, name: str) -> OperationType:
        return self._types[canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in self._types.values())

    def __len__(self) -> int:
        return len(self._types)


_REGISTRIES = [TypeRegistry()]
"""The last registry is the current one. Outside of tests there is no other."""
DECLARED: WeakKeyDictionary[ModuleType, dict[str, OperationType]] = WeakKeyDictionary()
"""The types with handlers of each module that is loaded, by canonical names; see `type_modules`."""


def current_registry() -> TypeRegistry:
    """The registry that `handles` adds types to."""
    return _REGISTRIES[-1]


@contextmanager
def separate_registry() -> Iterator[TypeRegistry]:
    """Make a new, empty registry the current one until the block ends. It isolates a test from other tests."""
    _REGISTRIES.append(TypeRegistry())
    try:
        yield _REGISTRIES[-1]
    finally:
        _REGISTRIES.pop()


def handles(
    model: type[OperationT],
    *,
    retry_on: Exceptions = (),
    never_retry: Exceptions = (),
    **policy: Unpack[PolicyOptions],
) -> Callable[[HandlerT], HandlerT]:
    """Make a function the handler of an operation type.

    `PolicyOptions` says what each option means. An exception is retried if it is one of `retry_on` (any, when that
    is empty) and none of `never_retry`; else it fails the operation at once. Raises ConfigurationError for a
    declaration that cannot work.
    """
    declared = read_policy(model.odata_type, policy)
    for item in (*retry_on, *never_retry):
        if not _is_exception(item):
            raise ConfigurationError(
                f"{model.odata_type}: retry_on and never_retry take exception classes, not {item!r}"
            )

    def register(handler: HandlerT) -> HandlerT:
        try:
            signature(handler).bind(None, None)
        except TypeError:
            raise ConfigurationError(f"{model.odata_type}: a handler takes (operation, context)") from None
        entry = OperationType(model.odata_type, model, handler, declared, tuple(retry_on), tuple(never_retry))
        current_registry().add(entry)
        if (home := sys.modules.get(module_of(handler))) is not None:
            DECLARED.setdefault(home, {})[canonical(entry.name)] = entry
        return handler

    return register


def module_of(handler: Handler | None) -> str:
    """The name of the module that defines a handler; empty where it is not known."""
    return getattr(handler, "__module__", None) or ""


def _is_exception(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)


def canonical(name: str) -> str:
    """The form under which type names are compared: OData's `#` is optional, case does not count."""
    return name.removeprefix("#").lower()


def _detail(location: tuple[int | str, ...], message: str) -> Detail:
    path = "".join(f"[{part}]" if isinstance(part, int) else f"/{part}" for part in location).lstrip("/")
    return Detail(code="badRequest", message=message, target=path or None)
