"""The api service: the task store, the answers to queries, and the reading half of the REST API."""
