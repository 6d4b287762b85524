"""The record's form in Redis: a hash of strings. Fields at their defaults are left out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracker.keys import call_digest, context_digest, owner_digest
from tracker.model import OperationStatus, Policy, Record, ResultInfo, Stage

_TEXTS = ("key", "tenant", "call_id", "id", "type", "digest", "detail", "worker", "cancel_reason")
_NUMBERS = (
    *("attempt", "charged", "ticket", "vanished", "revision"),
    *("created", "started", "completed", "changed", "expires", "cancel_requested"),
)
_FLAGS = ("canceled", "hidden")


def encode(record: Record) -> dict[str, str]:
    """A new record's fields, with the digests that scripts build index keys from."""
    return {
        **encode_fields(
            {name: getattr(record, name) for name in (*_TEXTS, "client_context", "members", "result_info")}
        ),
        "policy": _encode_policy(record.policy),
        "owner": owner_digest(record.tenant),
        "call": call_digest(record.tenant, record.call_id),
        "context": context_digest(record.client_context),
    }


def encode_fields(fields: Mapping[str, Any]) -> dict[str, str]:
    """Record fields as they are stored; those that are empty are left out."""
    stored = {name: _encode_value(name, value) for name, value in fields.items()}
    return {name: value for name, value in stored.items() if value is not None}


def decode(answer: Sequence[str]) -> Record:
    """A record from what HGETALL answers inside a script: field, value, field, value, ..."""
    return decode_hash(dict(zip(answer[::2], answer[1::2], strict=True)))


def decode_hash(stored: Mapping[str, str]) -> Record:
    """A record from its hash."""
    known: dict[str, Any] = {name: stored[name] for name in _TEXTS if name in stored}
    known.update({name: int(stored[name]) for name in _NUMBERS if name in stored})
    known.update({name: stored[name] == "1" for name in _FLAGS if name in stored})
    if "percent" in stored:
        known["percent"] = int(stored["percent"])
    if "members" in stored:
        known["members"] = json.loads(stored["members"])
    if "result_info" in stored:
        known["result_info"] = _decode_result(json.loads(stored["result_info"]))
    return Record(
        **known,
        client_context=stored.get("client_context"),
        policy=_decode_policy(json.loads(stored["policy"])),
        status=OperationStatus(stored["status"]),
        stage=Stage(stored["stage"]),
    )


def _encode_value(name: str, value: Any) -> str | None:
    match value:
        case None | False:
            return None
        case True:
            return "1"
        case ResultInfo():
            return json.dumps([value.code, value.subcode, value.message], separators=(",", ":"))
        case Mapping():
            return json.dumps(dict(value), separators=(",", ":")) if value else None
        case str():
            return value if value or name == "client_context" else None
        case _:
            return str(value)


def _encode_policy(policy: Policy) -> str:
    canceled = policy.canceled
    return json.dumps(
        [
            *(policy.attempts, policy.run_within, policy.backoff_first, policy.backoff_cap),
            *(policy.retention, policy.tombstone),  # the scripts read these two, by their places
            [canceled.code, canceled.subcode, canceled.message],
            dict(policy.canceled_members),
        ],
        separators=(",", ":"),
    )


def _decode_policy(stored: Sequence[Any]) -> Policy:
    attempts, run_within, first, cap, retention, tombstone, canceled, members = stored
    return Policy(attempts, run_within, first, cap, retention, tombstone, _decode_result(canceled), members)


def _decode_result(stored: Sequence[Any]) -> ResultInfo:
    code, subcode, message = stored
    return ResultInfo.model_construct(code=code, subcode=subcode, message=message)
