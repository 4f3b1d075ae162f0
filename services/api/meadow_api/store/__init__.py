"""The task store: SQLite, one writing thread, several reading ones."""
