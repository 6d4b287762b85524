"""The registry of operation types: `@odata.type` → class, handler, policy. `handles` adds types to it."""

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
from tracker.domain.hooks import Hooks
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
    """Raised by a handler that does not accept the operation's input. The operation fails, without another attempt.

    `code`, `subcode` and `message` become the operation's `resultInfo`. `code` is 400 by default. Of the message the
    first 4096 characters are kept.
    """

    def __init__(self, message: str, subcode: int = 1, *, code: int = REJECTED_CODE) -> None:
        super().__init__(message)
        self.result = ResultInfo(code=code, subcode=subcode, message=message[:MESSAGE_LIMIT])


class Retry(Exception):
    """Raised by a handler that wants another attempt, after the time `after`, or else after the type's backoff.

    The attempt counts as failed: after the type's last attempt the operation fails with 500/1 and the message, of which
    1024 characters are kept. Raises ConfigurationError when `after` is not a finite duration of 0 or more.
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
    """The second argument of a handler, beside its operation: ids, requests to stop, and a way to report progress."""

    @property
    def operation_id(self) -> str:
        """The operation's id, as clients know the operation. It is unique within a tenant."""

    @property
    def call_id(self) -> str:
        """The id of the call that the operation belongs to."""

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1, 2, and so on."""

    @property
    def idempotency_key(self) -> str:
        """A text of 32 characters that all attempts of one operation share, and no other operation has.

        Hand this key to the systems that the handler calls: an operation may run more than once.
        """

    @property
    def cancel_requested(self) -> bool:
        """Whether the handler is asked to stop: by a cancel, by its time limit, or by a worker that stops."""

    def progress(self, percent: float | None = None, detail: str = "") -> Awaitable[None]:
        """Report progress. Clients see it as `percentComplete` and `statusDetail`.

        `percent` is a number from 0 to 100; a value below the last value counts as the last value. `detail` is a text,
        of which 256 characters are kept. A coroutine awaits the call, a plain function does not. At most four
        reports a second are stored; of more reports the latest is stored. Raises ValueError for another `percent`.
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
    isolate: bool = False
    _policies: dict[tuple[float, float], Policy] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def is_coroutine(self) -> bool:
        """Whether the handler is awaited, rather than called."""
        return iscoroutinefunction(self.handler)

    def policy(self, *, retention: float, tombstone: float) -> Policy:
        """The policy that is stored with new operations of the type. The durations are in seconds."""
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
        """Check the members that a client sent. Returns them unchanged, with the type's defaults for missing members.

        Raises Invalid with a detail for each wrong member.
        """
        if _accepts_everything(self.model):
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
def _accepts_everything(model: type[Operation]) -> bool:
    """Whether the type accepts any members: it declares none of its own, and has no rule for others."""
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
    """Operation types by name. Names may be in any case, with or without the `#`."""

    def __init__(self) -> None:
        self._types: dict[str, OperationType] = {}
        self.hooks = Hooks()
        """The hooks of the modules that declare the types."""

    def add(self, entry: OperationType) -> None:
        """Register a type. A class whose module is loaded twice replaces its first entry.

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
    isolate: bool = False,
    **policy: Unpack[PolicyOptions],
) -> Callable[[HandlerT], HandlerT]:
    """Make a function the handler of the operation type `model`. Use it as a decorator: `@handles(Transcode)`.

    The function takes the operation and a `Context`. It is a coroutine, of which many run at once on one event loop, or
    a plain function, which has a process to itself while it runs. It returns None or a `ResultInfo`, and raises
    `Rejected`, `Retry` or any other exception.

    An exception leads to another attempt if it is one of the classes `retry_on` (empty: any class) and none of the
    classes `never_retry`. Otherwise the operation fails at once. With `isolate`, each attempt has a fresh process,
    which runs nothing else. The other options, `PolicyOptions`, say how and when an operation is tried.

    Raises ConfigurationError for an option that is not valid, or for a function that does not take two arguments.
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
        entry = OperationType(model.odata_type, model, handler, declared, tuple(retry_on), tuple(never_retry), isolate)
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
    """The form in which type names are compared. OData's `#` is optional, and case does not count."""
    return name.removeprefix("#").lower()


def _detail(location: tuple[int | str, ...], message: str) -> Detail:
    path = "".join(f"[{part}]" if isinstance(part, int) else f"/{part}" for part in location).lstrip("/")
    return Detail(code="badRequest", message=message, target=path or None)
