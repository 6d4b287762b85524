"""Packed arguments of scripts: forms in which one argument has several fields, with spaces between them.

Each form is declared once, by the Python function that writes it. The Lua function that reads the form is made from
what the Python function writes (`lua_reader`, see `lua_modules`). No field may be empty or contain a space. `NOTHING`
stands for a field without a value.

Workers keep changes in their spool in the form in which they are sent, and a worker of another version may send them
later. So the fields of `change_header` and their order must not change.
"""

import inspect
from collections.abc import Callable, Mapping

NOTHING = "-"


def shared_header(*, owner: str, call: str, start_within: int, count: int) -> str:
    """The header of the fields that several creates have in common. `count` arguments follow: field, value, ...

    `owner` is the tenant's digest, `call` the call's. `start_within` is the longest time from the first queueing to the
    start, in microseconds; 0 is no limit. The form begins with `=`, and `create_header` never does.
    """
    return f"= {owner} {call} {start_within} {count}"


def create_header(*, key: str, id: str, digest: str, context: str, has_options: int, count: int) -> str:  # noqa: A002 - the record's own name
    """The header of a create. `create_options` follow if `has_options` is 1, then `count` arguments: field, value, ...

    `id` is the public id. `digest` is the digest of the call and the body. It tells a repeated create from another
    create with the same id. `context` is the client context's digest, or NOTHING.
    """
    return f"{key} {id} {digest} {context} {has_options} {count}"


def create_options(*, delay: int, not_before: int, idempotency_key: str, fingerprint: str, remember_for: int) -> str:
    """The options of a create, which few creates have.

    The operation starts neither before `delay` (microseconds), nor before `not_before` (a time). `idempotency_key` is
    the digest of the client's idempotency key, or NOTHING. The key is remembered for `remember_for` seconds.
    `fingerprint` is the digest of what the request asks for. It tells a repeated request from another request with the
    same key.
    """
    return f"{delay} {not_before} {idempotency_key} {fingerprint} {remember_for}"


def change_header(  # noqa: PLR0913 - a change has that many fields
    *,
    key: str,
    seen_stage: str,
    seen_attempt: int,
    seen_ticket: int,
    seen_revision: int | str,
    lease_ran_out: int,
    stage: str,
    delay: int,
    token: str,
    timestamp_field: str,
    count: int,
) -> str:
    """The header of a change. Its entry for the history of attempts follows (empty for none), then `count` arguments.

    The `count` arguments are fields to write: field, value, ... The change is written only if the record still has the
    values `seen_…`. `seen_revision` is NOTHING unless the caller asks for one revision. `lease_ran_out` is 1 for a
    change that a renewed lease forbids. `stage` is the operation's stage after the change. `delay` is the delay of a
    delayed operation, in microseconds. `token` names the change: when its reply was lost and the change is sent again,
    nothing more is written. `timestamp_field` names a field to write the present time to, or is NOTHING.
    """
    return (
        f"{key} {seen_stage} {seen_attempt} {seen_ticket} {seen_revision} {lease_ran_out} {stage} {delay} {token} "
        f"{timestamp_field} {count}"
    )


FORMS: Mapping[str, Callable[..., str]] = {
    form.__name__: form for form in (shared_header, create_header, create_options, change_header)
}
"""The forms by their names in Lua."""


def lua_reader(name: str) -> str:
    """The Lua function `unpack_<name>`: it returns the fields as a table, or nil for an argument of another form."""
    form = FORMS[name]
    fields = list(inspect.signature(form).parameters)
    written = form(**{field: field for field in fields}).split(" ")
    read = [word for word in written if word in fields]
    pattern = " ".join("(%S+)" if word in fields else word for word in written)
    return (
        f"local function unpack_{name}(text)\n"
        f"  local {', '.join(read)} = string.match(text, '^{pattern}$')\n"
        f"  return {read[0]} and {{{', '.join(f'{field} = {field}' for field in read)}}}\n"
        "end"
    )
