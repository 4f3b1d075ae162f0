"""Meadow: the language that all its services speak. Knows neither Celery nor any service."""

__version__ = "0.1.0"
