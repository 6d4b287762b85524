"""The record's form in Redis: a hash of strings. Fields at their defaults are left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from tracker.keys import call_digest, context_digest, owner_digest
from tracker.model import Json, OperationStatus, Policy, Record, ResultInfo, Stage

_TEXTS = ("key", "tenant", "call_id", "id", "type", "digest", "detail", "worker", "cancel_reason")
_NUMBERS = (
    *("attempt", "charged", "ticket", "vanished", "declined", "revision", "percent"),
    *("created", "started", "completed", "changed", "expires", "cancel_requested"),
)
_FLAGS = ("canceled", "hidden")


def encode(record: Record) -> dict[str, str]:
    """A new record's fields, with the digests that scripts build index keys from."""
    stored = encode_fields({name: getattr(record, name) for name in (*_TEXTS, "members", "result_info")})
    context = {} if record.client_context is None else {"client_context": record.client_context}
    return {
        **{name: value for name, value in stored.items() if value},
        **context,
        "policy": _encode_policy(record.policy),
        "owner": owner_digest(record.tenant),
        "call": call_digest(record.tenant, record.call_id),
        "context": context_digest(record.client_context),
    }


def encode_fields(changed: Mapping[str, Any]) -> dict[str, str]:
    """Record fields as a change stores them; one that is empty is stored as empty, over what was there."""
    return {name: _encode_value(value) for name, value in changed.items()}


def decode(answer: Sequence[str]) -> Record:
    """A record from what HGETALL answers inside a script: field, value, field, value, ..."""
    return decode_hash(dict(zip(answer[::2], answer[1::2], strict=True)))


def decode_hash(stored: Mapping[str, str]) -> Record:
    """A record from its hash."""
    known: dict[str, Any] = {name: stored[name] for name in _TEXTS if name in stored}
    known.update({name: int(stored[name]) for name in _NUMBERS if stored.get(name)})
    known.update({name: stored[name] == "1" for name in _FLAGS if name in stored})
    if stored.get("members"):
        known["members"] = json.loads(stored["members"])
    if stored.get("result_info"):
        known["result_info"] = _decode_result(json.loads(stored["result_info"]))
    return Record(
        **known,
        client_context=stored.get("client_context"),
        policy=_decode_policy(json.loads(stored["policy"])),
        status=OperationStatus(stored["status"]),
        stage=Stage(stored["stage"]),
    )


def _encode_value(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "1"
        case ResultInfo():
            return json.dumps([value.code, value.subcode, value.message], separators=(",", ":"))
        case Mapping():
            return json.dumps(dict(value), separators=(",", ":")) if value else ""
        case _:
            return str(value)


def _encode_policy(policy: Policy) -> str:
    """By name: the scripts read `retention` and `tombstone`."""
    canceled = [policy.canceled.code, policy.canceled.subcode, policy.canceled.message]
    stored = {item.name: getattr(policy, item.name) for item in fields(policy)}
    return json.dumps(
        {**stored, "canceled": canceled, "canceled_members": dict(policy.canceled_members)}, separators=(",", ":")
    )


def _decode_policy(stored: Json) -> Policy:
    known = {item.name: stored[item.name] for item in fields(Policy) if item.name in stored}
    return Policy(**{**known, "canceled": _decode_result(stored["canceled"])})


def _decode_result(stored: Sequence[Any]) -> ResultInfo:
    code, subcode, message = stored
    return ResultInfo.model_construct(code=code, subcode=subcode, message=message)
