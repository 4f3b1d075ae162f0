"""The collector reads a cluster's broker and tells what it sees as facts on NATS."""
