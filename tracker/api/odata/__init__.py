"""Lists of a call's operations: the query options, from text to what is asked of the service."""
