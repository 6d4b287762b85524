"""Signatures of requests by Standard Webhooks 1.0.0: symmetric secrets, `v1` signatures."""

import base64
import hmac
import time
from collections.abc import Iterable

from tracker.errors import ConfigurationError

PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""How many bytes a key has (Standard Webhooks: 192 to 512 bits)."""


def key_of(secret: str, *, owner: str) -> bytes:
    """The key of a `whsec_…` secret. The padding of its Base64 may be missing.

    Raises ConfigurationError that names `owner` and never shows the secret.
    """
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(PREFIX) or len(key) not in SECRET_BYTES:
        raise ConfigurationError(f"{owner}: a secret is {PREFIX} and the Base64 of 24 to 64 bytes")
    return key


def sign(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """A signature for each key, separated by spaces. While keys are rotated, a receiver knows only some of them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{digest}" for digest in digests)


def headers(keys: Iterable[bytes], message_id: str, body: bytes) -> dict[str, str]:
    """The `webhook-*` headers of a request that is sent now. Without keys there is no signature.

    `message_id` is the same each time that a message is sent. No client may choose it.
    """
    now = int(time.time())
    unsigned = {"webhook-id": message_id, "webhook-timestamp": str(now)}
    signature = sign(keys, message_id, now, body)
    return {**unsigned, "webhook-signature": signature} if signature else unsigned
