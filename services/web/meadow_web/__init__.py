"""The web service: pages, live updates, and the forms that act on a cluster."""
