"""A Celery cluster to look at: a small shop with two workers and traffic, without any server to install."""
