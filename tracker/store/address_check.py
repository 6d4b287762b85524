"""The check of a server's address at the start of a command: what is wrong with it, as one sentence."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tracker.store.connection import open_blocking

if TYPE_CHECKING:
    from tracker.config import Settings

ASK_FOR: Final = 2.0
"""The longest time that the check waits for the server, in seconds."""
_SENTENCES: Final[Sequence[tuple[str, str]]] = (
    ("invalid (username-password|password)|WRONGPASS", "Redis refuses the user name or the password of REDIS_URL"),
    ("already authenticated|Authentication required|NOAUTH", "Redis asks for a password, and REDIS_URL has none"),
    ("DB index is out of range|invalid DB index", "REDIS_URL names a database that the server does not have"),
    (
        r"Protocol error, got|wrong version number|WRONG_VERSION_NUMBER|RECORD_LAYER",
        "what answers at REDIS_URL is no Redis server, or only one side speaks TLS (`rediss://` does, `redis://` not)",
    ),
    ("CERTIFICATE_VERIFY_FAILED|certificate verify failed", "the server's certificate is not trusted"),
)
"""Texts of errors, and the sentences for them."""


def explain(error: BaseException) -> str:
    """The meaning of an error of Redis or of its connection, if that is known, and else its own text."""
    text = str(error)
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, text):
            return f"{sentence} ({text})"
    return text


def why_unusable(settings: "Settings") -> str | None:
    """Why the server at REDIS_URL cannot be used; None if it answers. Asks once, for ASK_FOR seconds at most.

    Raises ConfigurationError for a malformed URL.
    """
    try:
        with open_blocking(settings, within=ASK_FOR, tries=0) as redis:
            redis.ping()
    except (RedisTimeoutError, TimeoutError) as error:
        tls = ". Perhaps it speaks no TLS: try `redis://`" if settings.redis_url.startswith("rediss://") else ""
        return f"the server does not answer within {ASK_FOR:g} s{tls} ({error})"
    except (RedisError, OSError) as error:
        return explain(error)
    return None
