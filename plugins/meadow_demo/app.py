"""The shop's Celery app, as `celery -A meadow_demo.app` finds it.

With `SHOP_DIRECTORY` in the environment, that directory is broker and result backend. Without it, the broker is
Celery's own `CELERY_BROKER_URL`. Either is read when the app is first used, not when this module is imported.
"""

import os
from pathlib import Path
from typing import Any

from celery import Celery

from meadow_demo.folders import DIRECTORY, Folders
from meadow_demo.tasks import TASKS

QUEUES = ("orders", "mail", "reports")
POLLING_INTERVAL = 0.05


def configuration() -> dict[str, Any]:
    """The settings of the shop."""
    settings: dict[str, Any] = {
        "task_default_queue": "orders",
        "task_routes": {"shop.mail.*": {"queue": "mail"}, "shop.reports.*": {"queue": "reports"}},
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_send_task_events": True,
        "worker_pool_restarts": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "result_expires": 3600,
    }
    directory = os.environ.get(DIRECTORY)
    if directory:
        settings |= _in_directory(Folders(Path(directory)))
    return settings


def _in_directory(folders: Folders) -> dict[str, Any]:
    """Kombu's file-system transport. What is sent goes to one folder and what is read comes from another: the post
    office moves only what is written to its end, since a reader of a single folder can meet a half-written file."""
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_out": str(folders.outgoing),
            "data_folder_in": str(folders.incoming),
            "control_folder": str(folders.bindings),
            "store_processed": True,  # else kombu moves what it reads through the system's temporary directory
            "processed_folder": str(folders.processed),
            "polling_interval": POLLING_INTERVAL,
        },
        "result_backend": f"file://{folders.results}",
    }


app = Celery("shop")
app.add_defaults(configuration)
for _name, (_function, _options) in TASKS.items():
    app.task(_function, name=_name, **_options)
