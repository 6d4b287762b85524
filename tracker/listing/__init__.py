"""Lists of a call's operations: conditions, the choice of indexes, pages."""
