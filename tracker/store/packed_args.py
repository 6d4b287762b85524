"""Several fields that a script takes as one argument, with spaces between them.

Each form is declared once, by the function here that writes it: the Lua function that reads it is made from what the
Python function writes (`lua_reader`, see `lua_modules`). No field may be empty or hold a space. `NOTHING` stands for a
field that there is nothing for.

Workers keep changes in their spool in the form in which they are sent, and a worker of another version may send them:
the fields of `change_header` and their order stay as they are.
"""

import inspect
from collections.abc import Callable, Mapping

NOTHING = "-"


def shared_header(*, owner: str, call: str, start_within: int, count: int) -> str:
    """Begin what several creates have in common: `count` arguments with fields follow (name, value, ...).

    `owner` is the tenant's digest, `call` the call's. `start_within` is the longest time in microseconds from the first
    queueing to the start, or 0 for no limit. No create begins with `=`.
    """
    return f"= {owner} {call} {start_within} {count}"


def create_header(*, key: str, id: str, digest: str, context: str, has_options: int, count: int) -> str:  # noqa: A002 - the record's own name
    """Begin a new operation: `create_options` follow if `has_options` is 1, then `count` arguments with fields.

    `id` is the public id. `digest` is of the call and the body: it tells a repeated create from another one with the
    same id. `context` is the client context's digest, if there is one.
    """
    return f"{key} {id} {digest} {context} {has_options} {count}"


def create_options(*, delay: int, not_before: int, idempotency_key: str, fingerprint: str, remember_for: int) -> str:
    """Say what few creates ask for.

    The operation starts neither before `delay` (microseconds), nor before `not_before` (a time). `idempotency_key` is
    the digest of the client's name for its request, if it has one, which is remembered for `remember_for` seconds.
    `fingerprint` is the digest of what the request asks for: it tells a repeated request from another one with the
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
    """Begin a change: the entry of the history of attempts follows (or an empty argument), then `count` with fields.

    What begins with `seen_` must be so in the record; `seen_revision` is there only if the caller insists on it.
    `lease_ran_out` is 1 for a change that a renewed lease forbids. `stage` is where the operation goes, which may be
    where it is; `delay` is for a delayed one, in microseconds. `token` names the change: the same change again, because
    its answer was lost, writes nothing. `timestamp_field` is a field that takes the time, if there is one.
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
