"""Named places between two effects, where the chaos harness ends a process. In service, `reach` does nothing."""

from collections.abc import Callable

AFTER_CLAIM = "after_claim"
"""Redis has given a worker the operation; nothing in the worker knows of it yet."""
BEFORE_HANDLER = "before_handler"
"""The attempt is known to its worker, and its host has not been told to run the handler."""
AFTER_HANDLER = "after_handler"
"""The handler has ended, and its outcome is nowhere but in the worker's memory."""
MID_COMMIT = "mid_commit"
"""Redis has written a batch of outcomes, and the worker has not taken note of the answer."""
IN_SWEEP = "in_sweep"
"""The sweeper has repaired one operation of those it read, and holds the lock."""
AFTER_CREATE = "after_create"
"""Redis has stored a new operation, and its client has no answer."""
STEPS = (AFTER_CLAIM, BEFORE_HANDLER, AFTER_HANDLER, MID_COMMIT, IN_SWEEP, AFTER_CREATE)

hook: Callable[[str], None] | None = None
"""What `reach` calls, if anything. Forked processes inherit it."""


def reach(step: str) -> None:
    """Say that a process has come to a step, one of STEPS."""
    if hook is not None:
        hook(step)
