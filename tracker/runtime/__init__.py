"""Child processes, background tasks, the private Valkey server and fault points for tests."""
