"""Operation types that the workers did not have when the data was stored.

This module does not import `stored_types`, because both are loaded as top-level modules.
"""

from tracker import Context, Operation, handles


class Lacking(Operation, type="#stored.lacking"):
    """An operation fails when it does not start within two hours."""


class LackingSoon(Operation, type="#stored.lackingSoon"):
    """An operation fails when it does not start within a second."""


@handles(Lacking, start_within="2h")
async def lacking(_operation: Lacking, _context: Context) -> None:
    """Do nothing."""


@handles(LackingSoon, start_within="1s")
async def lacking_soon(_operation: LackingSoon, _context: Context) -> None:
    """Do nothing."""
