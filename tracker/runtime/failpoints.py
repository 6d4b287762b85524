"""Failpoints: named points at which a test or the chaos harness ends a process or raises an error of the system.

In service `reach` does nothing.
"""

from collections.abc import Callable

AFTER_CLAIM = "after_claim"
"""Redis has given an operation to a worker. The worker has not received the reply."""
BEFORE_HANDLER = "before_handler"
"""The worker knows the attempt. It has not told a host to run the handler."""
AFTER_HANDLER = "after_handler"
"""The handler has ended. Its outcome is only in the worker's memory."""
MID_COMMIT = "mid_commit"
"""Redis has written a batch of outcomes. The worker has not processed the reply."""
IN_SWEEP = "in_sweep"
"""The sweeper has repaired one of the operations that it read. It still holds the lock."""
AFTER_CREATE = "after_create"
"""Redis has stored a new operation. Its client has no response yet."""
FAILPOINTS = (AFTER_CLAIM, BEFORE_HANDLER, AFTER_HANDLER, MID_COMMIT, IN_SWEEP, AFTER_CREATE)
"""The failpoints at which a process may end."""
BEFORE_FORK = "before_fork"
"""The fork server is about to fork a host. An OSError that the hook raises here stands for a fork that fails."""

hook: Callable[[str], None] | None = None
"""The function that `reach` calls with the failpoint's name; None in service. Forked processes inherit it."""


def reach(failpoint: str) -> None:
    """Report that this process has reached a failpoint."""
    if hook is not None:
        hook(failpoint)
