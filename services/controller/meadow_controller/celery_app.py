"""Finds the user's Celery app, as `celery -A` does."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.utils import find_app
from celery.exceptions import ImproperlyConfigured

from meadow.errors import StartRefused
from meadow.settings import Settings

log = logging.getLogger(__name__)


def load(settings: Settings) -> Celery:
    """The app that `settings.app` names, with its tasks; without one, a bare app that knows the broker only.

    Raises `StartRefused`.
    """
    directory = str(Path(settings.workdir or ".").expanduser().absolute())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    app = _find(settings.app) if settings.app else _bare()
    return prepare(app, settings)


def prepare(app: Celery, settings: Settings) -> Celery:
    """The app with the broker and result backend of the settings, and with all its tasks; raises `StartRefused`."""
    if settings.broker:
        app.conf.update(broker_url=settings.broker, broker_read_url=settings.broker, broker_write_url=settings.broker)
    if settings.result_backend:
        app.conf.update(result_backend=settings.result_backend)
    _import_tasks(app, settings)
    _check_backend(app)
    return app


def _import_tasks(app: Celery, settings: Settings) -> None:
    try:
        app.loader.import_default_modules()
        app.finalize(auto=True)
    except ImproperlyConfigured as exc:
        raise StartRefused(f"The Celery app is not configured well: {exc}") from exc
    except Exception as exc:
        raise StartRefused(
            f"The tasks of the Celery app cannot be imported: {type(exc).__name__}: {exc}. "
            f"'celery -A {settings.app or app.main} report' must work too."
        ) from exc


def _check_backend(app: Celery) -> None:
    """Made here once, so that a wrong one stops the start and not the first command."""
    try:
        backend = app.backend
    except Exception as exc:
        raise StartRefused(
            f"The result backend of the Celery app cannot be used: {type(exc).__name__}: {exc}. "
            "Correct result_backend, or install what it needs."
        ) from exc
    log.debug("The app %s has the result backend %s.", app.main, type(backend).__name__)


def _bare() -> Celery:
    url = os.environ.get("CELERY_BROKER_URL")
    app = Celery("meadow", set_as_current=False)
    app.conf.update(accept_content=["json"], **({"broker_url": url} if url else {}))
    return app


def _find(name: str) -> Celery:
    try:
        found: Any = find_app(name)
    except (ImportError, AttributeError) as exc:
        raise StartRefused(
            f"The Celery app {name!r} cannot be loaded: {exc}. Name the module that creates it, as in "
            "'celery -A' (module or module:attribute), and run Meadow where it can be imported, or give --workdir."
        ) from exc
    except Exception as exc:
        raise StartRefused(
            f"The module of the Celery app {name!r} raised {type(exc).__name__}: {exc}. "
            f"'celery -A {name} report' must work too."
        ) from exc
    if not isinstance(found, Celery):
        raise StartRefused(
            f"{name!r} is a {type(found).__name__}, not a Celery app. Name the app, as in module:attribute."
        )
    return found
