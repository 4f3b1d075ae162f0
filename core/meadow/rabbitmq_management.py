"""RabbitMQ's management API: everything it says about a queue."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from meadow.errors import BrokerUnavailable
from meadow.events import QueueDepth

SOCKET_TIMEOUT = 2.0
TOTAL_TIMEOUT = 6.0
MAX_ANSWER = 32 * 1024 * 1024
PIECE = 64 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the password to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class Broker:
    """What the broker's own URL says: the virtual host, and who signs in."""

    virtual_host: str | None
    user: str | None
    password: str | None


class ManagementApi:
    """Asks for all queues of the broker's virtual host, and keeps those that were asked for."""

    supported = True

    def __init__(self, api: str, broker: Broker) -> None:
        self._api = api
        self._broker = broker
        self._opener = urllib.request.build_opener(_NoRedirect)

    def read(self, names: Sequence[str]) -> list[QueueDepth]:
        """The depth of each queue; one that does not exist has a depth of `None`."""
        url, headers = request_for(self._api, self._broker)
        try:
            answer = json.loads(self._fetch(url, headers))
        except ValueError as exc:
            raise BrokerUnavailable("The management API did not answer with JSON; check --broker-api.") from exc
        if not isinstance(answer, list):
            raise BrokerUnavailable("The management API did not answer with a list of queues; check --broker-api.")
        found = {queue["name"]: queue for queue in answer if isinstance(queue, dict) and "name" in queue}
        return [depth(name, found.get(name)) for name in names]

    def close(self) -> None:
        """Nothing stays open."""

    def _fetch(self, url: str, headers: dict[str, str]) -> bytes:
        end = time.monotonic() + TOTAL_TIMEOUT
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - settings allow http and https only
        try:
            with self._opener.open(request, timeout=SOCKET_TIMEOUT) as answer:
                data = bytearray()
                while piece := answer.read(PIECE):
                    data += piece
                    if len(data) > MAX_ANSWER or time.monotonic() > end:
                        raise BrokerUnavailable("The management API's answer is too long or takes too long.")
                return bytes(data)
        except urllib.error.HTTPError as exc:
            exc.close()
            raise BrokerUnavailable(_refusal(exc.code)) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise BrokerUnavailable(f"The management API cannot be reached: {exc}") from exc


def request_for(api: str, broker: Broker) -> tuple[str, dict[str, str]]:
    """The URL that lists the queues of the broker's virtual host, and the headers that sign in.

    The credentials are those in the API's URL, or else the broker's.
    """
    parts = urlsplit(api)
    user = unquote(parts.username) if parts.username is not None else broker.user
    password = unquote(parts.password) if parts.password is not None else broker.password
    if parts.username is not None and parts.password is None:
        password = ""
    host = parts.netloc.rpartition("@")[2]
    path = f"{parts.path.rstrip('/')}/queues/{quote(broker.virtual_host or '/', safe='')}"
    pair = base64.b64encode(f"{user or 'guest'}:{password or ''}".encode()).decode()
    return urlunsplit((parts.scheme, host, path, "", "")), {"Authorization": f"Basic {pair}"}


def depth(name: str, queue: dict[str, Any] | None) -> QueueDepth:
    """What the API says about one queue."""
    if queue is None:
        return QueueDepth(name=name)
    return QueueDepth(
        name=name,
        messages=_number(queue.get("messages")),
        ready=_number(queue.get("messages_ready")),
        unacked=_number(queue.get("messages_unacknowledged")),
        consumers=_number(queue.get("consumers")),
        raw=queue,
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _refusal(code: int) -> str:
    if code in (401, 403):
        return f"The management API refused the user or the password ({code}); put them into --broker-api."
    if code == 404:
        return "The management API does not know the virtual host, or --broker-api lacks its path (/api/)."
    return f"The management API answered {code}."
