"""Request bodies and preconditions of clients, read and checked."""
