"""How long the target and the header fields of a request may be, and the links that clients follow."""

from typing import Final

LONGEST_TARGET: Final = 8190
"""How many bytes the target of a request has at most: its path and query."""
LONGEST_FIELD: Final = 8192
"""How many bytes a header field has at most.

It differs from LONGEST_TARGET, because aiohttp names the limit that a line exceeds, and not the kind of the line.
"""
MOST_FIELDS: Final = 128
"""How many header fields a request has at most."""
LONGEST_LINK: Final = LONGEST_TARGET - len("DELETE  HTTP/1.1")
"""How many characters a link has at most that a client may follow.

aiohttp's parser in Python, and also some proxies, compare the whole request line with the limit of the target.
"""

TARGET_TOO_LONG: Final = f"The path and query have more than {LONGEST_TARGET} bytes."
FIELD_TOO_LONG: Final = f"A header field has more than {LONGEST_FIELD} bytes."
TOO_MANY_FIELDS: Final = f"The request has more than {MOST_FIELDS} header fields."
