"""The metrics service: facts as Prometheus series."""
