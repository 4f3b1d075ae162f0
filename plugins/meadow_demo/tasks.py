"""What the shop's workers do. They mostly sleep; what matters is how they end."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery.exceptions import Reject


class PaymentDeclined(Exception):
    """The bank said no."""


class GatewayTimeout(Exception):
    """The bank said nothing; it is worth another try."""


def process_order(order_id: int, customer: str, items: Sequence[str]) -> dict[str, Any]:
    """Check an order and give its total. One in twenty has an article that does not exist."""
    time.sleep(random.uniform(0.05, 0.5))
    prices = {"tulip": 2.5, "rose": 4.0, "daisy": 1.2, "poppy": 1.9, "fern": 6.75}
    return {"order": order_id, "customer": customer, "total": sum(prices[item] for item in items)}


def charge_card(order_id: int, amount: float, *, card: str, api_key: str) -> str:
    """Charge a card. The gateway often times out; some cards are declined."""
    time.sleep(random.uniform(0.1, 0.8))
    if random.random() < 0.25:
        raise GatewayTimeout(f"no answer for order {order_id} after 30 s")
    if random.random() < 0.08:
        raise PaymentDeclined(f"card ending in {card[-4:]}: insufficient funds for {amount:.2f} €")
    return f"charged {amount:.2f} €"


def average_basket(day: str, revenue: float, orders: int) -> float:
    """Revenue by order. A day without orders is its weak spot."""
    time.sleep(random.uniform(0.02, 0.1))
    return revenue / orders


def import_feed(supplier: str, rows: int) -> int:
    """Read a supplier's feed; a broken one is rejected."""
    time.sleep(random.uniform(0.2, 0.6))
    if rows == 0:
        raise Reject(f"the feed of {supplier} is empty", requeue=False)
    return rows


def count_shelf(shelf: str) -> int:
    """Count what lies on a shelf."""
    time.sleep(random.uniform(0.05, 0.2))
    return random.randint(0, 250)


def create_login(email: str, *, password: str, newsletter: bool) -> str:
    """Create an account. The password must not be seen by whoever watches the queue."""
    time.sleep(random.uniform(0.02, 0.1))
    if "@" not in email:
        raise ValueError(f"“{email}” is not an address")
    return f"account of {email}"


def send_receipt(order_id: int, to: str) -> str:
    """Send a receipt."""
    time.sleep(random.uniform(0.05, 0.3))
    if random.random() < 0.03:
        raise ConnectionRefusedError(111, "Connection refused", "smtp.shop.example:25")
    return f"receipt of order {order_id} sent to {to}"


def send_campaign(subject: str, audience: int) -> dict[str, int]:
    """Send a newsletter. Sent with an eta."""
    time.sleep(random.uniform(0.2, 1.0))
    return {"sent": audience, "bounced": audience // 40}


def build_daily_report(day: str, sections: Sequence[str]) -> str:
    """Build a report; large ones run into their soft time limit."""
    for _ in sections:
        time.sleep(random.uniform(0.4, 0.9))
    return f"reports/{day}.pdf"


def export_catalogue(language: str, seconds: float) -> str:
    """Runs for minutes: something to watch, and to revoke."""
    time.sleep(seconds)
    return f"catalogue-{language}.csv"


TASKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "shop.orders.process_order": (process_order, {}),
    "shop.orders.charge_card": (
        charge_card,
        {"autoretry_for": (GatewayTimeout,), "max_retries": 3, "retry_backoff": 2, "retry_jitter": False},
    ),
    "shop.orders.average_basket": (average_basket, {}),
    "shop.orders.create_login": (create_login, {}),
    "shop.stock.import_feed": (import_feed, {"acks_late": True}),
    "shop.stock.count_shelf": (count_shelf, {}),
    "shop.mail.send_receipt": (send_receipt, {"rate_limit": "120/m"}),
    "shop.mail.send_campaign": (send_campaign, {}),
    "shop.reports.build_daily_report": (build_daily_report, {"soft_time_limit": 4.0}),
    "shop.reports.export_catalogue": (export_catalogue, {}),
}
"""Each task's name, its function and its options."""
