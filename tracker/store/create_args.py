"""New operations, and the arguments of `create.lua` for them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.store.codec import encode, encode_shared
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.keys import call_digest, context_digest, owner_digest
from tracker.store.packed_args import NOTHING, create_header, create_options, shared_header


class CreateArgs(NamedTuple):
    """An operation that is to be stored. It starts neither before `delay` seconds, nor before `record.not_before`.

    `idempotency_key` is the idempotency key of the client's request.
    """

    record: Record
    delay: float = 0.0
    idempotency_key: IdempotencyKey = NO_KEY


def pack_creates(many: Iterable[CreateArgs]) -> Iterator[list[str]]:
    """The arguments of each new operation. Fields that several operations share are in the first one's arguments."""
    before: Record | None = None
    for new in many:
        record = new.record
        args = _own_args(new)
        if before is None or not _is_alike(record, before):
            args = [*_shared_args(record), *args]
        before = record
        yield args


def _is_alike(record: Record, other: Record) -> bool:
    return (
        record.policy is other.policy
        and record.type == other.type
        and record.call_id == other.call_id
        and record.tenant == other.tenant
    )


def _shared_args(record: Record) -> list[str]:
    fields = encode_shared(record)
    header = shared_header(
        owner=owner_digest(record.tenant),
        call=call_digest(record.tenant, record.call_id),
        start_within=round(record.policy.start_within * SECOND),
        count=len(fields),
    )
    return [header, *fields]


def _own_args(new: CreateArgs) -> list[str]:
    record, delay, key = new
    fields = encode(record)
    has_options = bool(delay or record.not_before or key is not NO_KEY)
    header = create_header(
        key=record.key,
        id=record.id,
        digest=record.digest,
        context=context_digest(record.client_context) or NOTHING,
        has_options=int(has_options),
        count=len(fields),
    )
    if not has_options:
        return [header, *fields]
    options = create_options(
        delay=round(delay * SECOND),
        not_before=record.not_before,
        idempotency_key=key.digest or NOTHING,
        fingerprint=key.fingerprint or NOTHING,
        remember_for=key.seconds,
    )
    return [header, options, *fields]
