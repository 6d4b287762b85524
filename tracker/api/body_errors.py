"""Errors of the body of a request that are found while the body arrives, outside of the handler that reads it.

After a response, aiohttp reads what is left of the body, and ignores a TimeoutError only. Every other error would be in
the log with a traceback, whenever a client likes.
"""


class BodyError(TimeoutError):
    """The body cannot be read to its end. The message is for the client."""


class BodyTimeoutError(BodyError):
    """The body arrives too slowly."""
