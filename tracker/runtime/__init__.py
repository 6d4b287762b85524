"""Child processes, background tasks, the private Valkey server, and failpoints for tests."""
