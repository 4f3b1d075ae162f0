"""Celery apps for tests."""
