"""New operations in the words that `create.lua` takes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracker.domain.operation import SECOND
from tracker.domain.record import Record
from tracker.store.codec import encode, encode_shared
from tracker.store.idempotency import NO_KEY, IdempotencyKey
from tracker.store.keys import call_digest, context_digest, owner_digest


class CreateArgs(NamedTuple):
    """An operation that is to be stored: it starts neither before `delay` seconds, nor before `record.not_before`.

    `once` is the client's name for the request.
    """

    record: Record
    delay: float = 0.0
    once: IdempotencyKey = NO_KEY


def pack_creates(many: Iterable[CreateArgs]) -> Iterator[list[str]]:
    """New operations in the words that their script takes, each after what it and those after it have in common."""
    before: Record | None = None
    for new in many:
        record = new.record
        fields = encode(record)
        words = [_head(new, len(fields)), *fields]
        if before is None or not _is_alike(record, before):
            shared = encode_shared(record)
            head = (
                f"= {owner_digest(record.tenant)} {call_digest(record.tenant, record.call_id)} "
                f"{round(record.policy.start_within * SECOND)} {len(shared)}"
            )
            words = [head, *shared, *words]
        before = record
        yield words


def _is_alike(record: Record, other: Record) -> bool:
    return (
        record.policy is other.policy
        and record.type == other.type
        and record.call_id == other.call_id
        and record.tenant == other.tenant
    )


def _head(new: CreateArgs, count: int) -> str:
    record, delay, once = new
    head = f"{record.key} {record.id} {record.digest} {context_digest(record.client_context) or '-'} {count}"
    if not delay and not record.not_before and once is NO_KEY:
        return head
    preferences = f"{round(delay * SECOND)} {record.not_before} {once.digest or '-'} {once.told or '-'} {once.seconds}"
    return f"{head} {preferences}"
