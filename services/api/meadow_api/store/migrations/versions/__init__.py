"""The revisions, the oldest first. Each is tested with a database of the release before it."""
