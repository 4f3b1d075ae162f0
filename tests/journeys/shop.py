"""The Celery app that journeys drive. Its broker and backend come from the environment."""

import os
import time

from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ.get("SHOP_BACKEND"))
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)


@app.task(name="shop.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="shop.wait")
def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="shop.charge")
def charge(order: int, password: str = "") -> None:
    raise ValueError(f"card declined for order {order}")
