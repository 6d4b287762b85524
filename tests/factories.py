"""Records as tests need them; every argument is a field of Record."""

from typing import Any
from uuid import uuid4

from tracker.model import Policy, Record
from tracker.types import COMMS_OPERATION

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
