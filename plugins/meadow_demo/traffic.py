"""The shop's customers: sends two to five tasks a second to the queues, for ever.

python -m meadow_demo.traffic
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from celery import Celery, chain, group
from celery.canvas import Signature

from meadow_demo.app import QUEUES, app
from meadow_demo.folders import DIRECTORY, Folders

CUSTOMERS = ("Zoë Åkesson", "Łukasz Wiśniewski", "田中 花子", "Ada Lovelace", "Μαρία Παππά", "O'Brien & Söhne")
ARTICLES = ("tulip", "rose", "daisy", "poppy", "fern")
MOST_WAITING = 60
WATCHER_PATIENCE = 10.0


@dataclass
class Customers:
    """Makes up what happens in the shop. The same seed makes up the same."""

    app: Celery
    chance: random.Random
    order: int = 1000

    def next(self) -> tuple[Signature, dict[str, Any]]:
        """Something to send, and the options to send it with."""
        happenings: tuple[tuple[int, Callable[[], tuple[Signature, dict[str, Any]]]], ...] = (
            (30, self.order_with_receipt),
            (14, self.payment),
            (10, self.login),
            (8, self.stock_taking),
            (6, self.basket),
            (5, self.feed),
            (5, self.campaign),
            (5, self.report),
            (2, self.urgent_report),
            (1, self.month_end),
        )
        weights, makers = zip(*happenings, strict=True)
        make: Callable[[], tuple[Signature, dict[str, Any]]] = self.chance.choices(makers, weights)[0]
        return make()

    def order_with_receipt(self) -> tuple[Signature, dict[str, Any]]:
        self.order += 1
        items = self.chance.choices(ARTICLES, k=self.chance.randint(1, 4))
        if self.chance.random() < 0.05:
            items.append("orchid")
        customer = self.chance.choice(CUSTOMERS)
        process = self.task("orders.process_order", self.order, customer, items)
        receipt = self.task("mail.send_receipt", self.order, f"{customer.split()[0].lower()}@shop.example")
        return chain(process, receipt.set(immutable=True)), {}

    def payment(self) -> tuple[Signature, dict[str, Any]]:
        amount = round(self.chance.uniform(5, 250), 2)
        card = f"4000 0000 0000 {self.chance.randint(1000, 9999)}"
        return self.task("orders.charge_card", self.order, amount, card=card, api_key="sk_live_not_a_real_key"), {}

    def login(self) -> tuple[Signature, dict[str, Any]]:
        name = self.chance.choice(("zoë", "lukasz", "hanako", "ada"))
        email = name if self.chance.random() < 0.15 else f"{name}@shop.example"
        return self.task("orders.create_login", email, password="hunter2 not so secret", newsletter=True), {}  # noqa: S106

    def stock_taking(self) -> tuple[Signature, dict[str, Any]]:
        return group(self.task("stock.count_shelf", f"shelf {row}") for row in "ABC"), {}

    def basket(self) -> tuple[Signature, dict[str, Any]]:
        orders = self.chance.choice((0, 12, 31, 54, 80))
        return self.task("orders.average_basket", self.day(), orders * 23.5, orders), {}

    def feed(self) -> tuple[Signature, dict[str, Any]]:
        return self.task("stock.import_feed", "Gärtnerei Grün", self.chance.choice((0, 120, 450, 900))), {}

    def campaign(self) -> tuple[Signature, dict[str, Any]]:
        task = self.task("mail.send_campaign", "Spring is here 🌷", self.chance.randint(100, 4000))
        return task, {"countdown": self.chance.randint(10, 60)}

    def report(self) -> tuple[Signature, dict[str, Any]]:
        sections = ["sales", "stock", "returns", "staff", "weather", "forecast"][: self.chance.randint(1, 6)]
        return self.task("reports.build_daily_report", self.day(), sections), {}

    def urgent_report(self) -> tuple[Signature, dict[str, Any]]:
        return self.task("reports.build_daily_report", self.day(), ["sales"]), {"expires": 2}

    def month_end(self) -> tuple[Signature, dict[str, Any]]:
        reports = [self.report()[0] for _ in range(12)]
        return group(reports), {}

    def export(self) -> tuple[Signature, dict[str, Any]]:
        language = self.chance.choice(("de", "fr", "日本語"))
        return self.task("reports.export_catalogue", language, self.chance.uniform(60, 150)), {}

    def day(self) -> str:
        return (date.today() - timedelta(days=self.chance.randint(1, 30))).isoformat()

    def task(self, name: str, *args: Any, **kwargs: Any) -> Signature:
        return self.app.signature(f"shop.{name}", args=args, kwargs=kwargs)


def pauses(chance: random.Random) -> Iterator[float]:
    """Seconds between two happenings: calm minutes and busy ones, like a shop's day in small."""
    while True:
        for mean in (0.6, 0.3, 0.8):
            for _ in range(50):
                yield chance.uniform(0.4, 1.6) * mean


def waiting(celery_app: Celery) -> int:
    """How many messages wait in the shop's queues."""
    with celery_app.connection_for_read() as connection:
        return sum(_depth(connection, queue) for queue in QUEUES)


def _depth(connection: Any, queue: str) -> int:
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except connection.channel_errors:  # Redis does not know of queues that are empty
        return 0


def wait_for_watcher(patience: float) -> None:
    """Until somebody reads events, so that the story has a beginning; the broker in a directory can tell."""
    directory = os.environ.get(DIRECTORY)
    end = time.monotonic() + patience
    while directory and not Folders(Path(directory)).watched and time.monotonic() < end:
        time.sleep(0.05)


def main() -> None:
    """Send until killed; wait when the workers cannot keep up."""
    wait_for_watcher(WATCHER_PATIENCE)
    chance = random.Random(7)
    customers = Customers(app, chance)
    next_export = 0.0
    for count, pause in enumerate(pauses(chance)):
        if count % 10 == 0:
            while waiting(app) > MOST_WAITING:
                time.sleep(1.0)
        happening, options = customers.next()
        sent = happening.apply_async(**options)
        if "countdown" in options and chance.random() < 0.3:
            sent.revoke()  # a campaign that was called off
        if time.monotonic() >= next_export:
            export, options = customers.export()
            export.apply_async(**options)
            next_export = time.monotonic() + 80.0
        time.sleep(pause)


if __name__ == "__main__":
    main()
