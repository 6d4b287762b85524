"""Records with defaults for tests, and a claim of one. Each argument of make_record is a field of Record."""

from typing import Any
from uuid import uuid4

from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.errors import Refused
from tracker.store.store import Store

CALL = "call-1"


def make_record(**fields: Any) -> Record:
    key = uuid4()
    defaults: dict[str, Any] = {
        "key": key.hex,
        "tenant": "test",
        "call_id": CALL,
        "id": str(key),
        "type": COMMS_OPERATION,
        "digest": key.hex,
        "policy": Policy(),
    }
    return Record(**{**defaults, **fields})


async def claim(store: Store, record: Record, worker: str = "w1", *, types: tuple[str, ...] = ()) -> Record:
    """Claim the ticket that a record names, as a stock RQ worker's job does. Raises Refused."""
    kinds = dict.fromkeys(types or (canonical(record.type),), "coroutines")
    claims = await store.claim_ticket(f"{record.key}-{record.ticket}", worker=worker, kinds=kinds)
    if claims.refused:
        raise Refused(str(claims.refused))
    return [*claims.started, *claims.parked][0]
