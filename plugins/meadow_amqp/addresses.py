"""Where a broker is and who signs in, read from Celery's broker URL. Pure.

The rules are kombu's (`kombu.utils.url.url_to_parts`), so that events are read from where the workers send them.
"""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORT = 5672
TLS_PORT = 5671
SCHEMES = {"amqp": False, "pyamqp": False, "amqps": True}
"""The schemes that kombu knows for AMQP, and whether they mean TLS."""


@dataclass(frozen=True)
class Address:
    """One broker. The password never stands in its repr."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    virtual_host: str
    tls: bool

    @property
    def host_and_port(self) -> str:
        """As py-amqp and people write it.

        >>> Address("::1", 5672, "", "", "/", False).host_and_port
        '[::1]:5672'
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def scheme_of(url: str) -> str:
    """The kind of broker."""
    return url.partition("://")[0]


def addresses(url: str, *, tls: bool = False) -> list[Address]:
    """Every broker of a URL that may name several, separated by semicolons; raises `ValueError`.

    What follows the first may leave out the scheme. `tls`: TLS is asked for elsewhere.

    >>> [a.host_and_port for a in addresses("amqps://a;amqp://b:7;c")]
    ['a:5671', 'b:7', 'c:5671']
    """
    first = scheme_of(url)
    return [
        _address(part if "://" in part else f"{first}://{part}", tls=tls) for part in url.split(";") if part.strip()
    ]


def _address(url: str, *, tls: bool) -> Address:
    scheme, _, rest = url.strip().partition("://")
    parts = urlsplit(f"http://{rest}")  # HTTP's rules for user, password, host and port
    host = unquote(parts.hostname or "")
    tls = tls or SCHEMES.get(scheme, False)
    return Address(
        host="127.0.0.1" if host in ("", "localhost") else host,
        port=parts.port or (TLS_PORT if tls else PORT),
        user=unquote(parts.username or "") or "guest",
        password=unquote(parts.password or "") or "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
        tls=tls,
    )
