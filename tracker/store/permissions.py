"""Commands and keys that the server's access control list (ACL) refuses to the user of REDIS_URL."""

from redis import exceptions as redis_errors

_IN_A_SCRIPT = "ACL failure in script"
"""The beginning of the error of a script whose command is refused. redis-py has no class for it."""


def is_refusal(error: BaseException | None) -> bool:
    """Whether the server refused the call for want of a permission."""
    if isinstance(error, redis_errors.NoPermissionError):
        return True
    return isinstance(error, redis_errors.ResponseError) and _IN_A_SCRIPT in str(error)
