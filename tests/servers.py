"""Real servers for tests, started on free ports of the loopback address and ended with the test."""

import grp
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kombu.pools
from nats.aio.client import Client
from nats.js import JetStreamContext

from meadow.bus import Bus


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def program(name: str) -> str:
    """The path of a server program; a missing one fails the test loudly."""
    found = shutil.which(name)
    assert found, f"{name} is needed for this test: run 'make servers'"
    return found


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Return when something listens on the port; fail when the process ends or it takes too long."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            assert process.poll() is None, f"the server stopped with {process.returncode}"
            assert time.monotonic() < end, f"nothing listens on port {port} after {seconds:g} s"
            time.sleep(0.02)


@asynccontextmanager
async def operator(bus: Bus) -> AsyncIterator[JetStreamContext]:
    """JetStream as an operator's own tool sees it, on the same NATS."""
    client = Client()
    await client.connect(bus.url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


@contextmanager
def running_redis(directory: Path, port: int | None = None) -> Iterator[str]:
    """A redis-server without persistence; gives its URL (database 0)."""
    chosen = port or free_port()
    argv = [program("redis-server"), "--port", str(chosen), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (directory / f"redis-{chosen}.log").open("ab") as log:
        process = subprocess.Popen([*argv, "--dir", str(directory)], stdout=log, stderr=log)
    try:
        wait_for_port(chosen, process)
        yield f"redis://127.0.0.1:{chosen}/0"
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class RabbitMQ:
    """A node of one's own: its AMQP URL and its management API's."""

    url: str
    api: str


@contextmanager
def running_rabbitmq(directory: Path, ports: tuple[int, int, int] | None = None) -> Iterator[RabbitMQ]:
    """A private RabbitMQ node with the management plugin, all its files below `directory`.

    On the same ports (AMQP, distribution, management) and in the same directory it is the same node again.
    epmd, which all Erlang nodes of a machine share, is left running.
    """
    amqp, distribution, management = ports or (free_port(), free_port(), free_port())
    directory.mkdir(parents=True, exist_ok=True)
    plugins, config = directory / "enabled_plugins", directory / "rabbitmq.conf"
    plugins.write_text("[rabbitmq_management].\n", encoding="utf-8")
    config.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        "log.console = true\nlog.console.level = warning\ncollect_statistics_interval = 500\n",
        encoding="utf-8",
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"meadow-{amqp}@localhost",
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }
    with (directory / "rabbitmq.log").open("ab") as log:
        process = subprocess.Popen(
            [_rabbitmq_script()],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_for_port(amqp, process, 90.0)
        wait_for_port(management, process, 90.0)
        yield RabbitMQ(f"amqp://guest:guest@127.0.0.1:{amqp}//", f"http://guest:guest@127.0.0.1:{management}/api/")
    finally:
        _end_group(process)


def forget_everything(node: RabbitMQ) -> None:
    """Make the node's virtual host anew: queues, exchanges and messages are gone, all connections are cut.

    kombu keeps connections by URL for the whole process, and would hand out cut ones.
    """
    for method, path, body in (
        ("DELETE", "vhosts/%2F", b""),
        ("PUT", "vhosts/%2F", b""),
        ("PUT", "permissions/%2F/guest", b'{"configure":".*","write":".*","read":".*"}'),
    ):
        connection = http.client.HTTPConnection(urlsplit(node.api).netloc.rpartition("@")[2], timeout=30.0)
        headers = {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=", "Content-Type": "application/json"}
        connection.request(method, f"/api/{path}", body=body, headers=headers)
        status = connection.getresponse().status
        connection.close()
        assert status < 300, f"RabbitMQ answered {method} {path} with {status}"
    kombu.pools.reset()


def _rabbitmq_script() -> str:
    """The server's own script. The one on Debian's PATH changes to another user and cannot write below `directory`."""
    own = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(own) if own.exists() else program("rabbitmq-server")


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it started in its session."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20.0)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class Postgres:
    """A server of one's own. `fresh` makes a new empty database and gives its URL; `process` may be killed."""

    home: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://meadow@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """A new empty database's URL."""
        import psycopg

        name = f"store_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def first(self, url: str, statement: str) -> Any:
        """Execute a statement in a database; the first value of its first row, if there is one."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]

    def drop(self, url: str) -> None:
        """Remove a database with all that still use it."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)".encode())


@contextmanager
def running_postgres(directory: Path | None = None, port: int | None = None) -> Iterator[Postgres]:
    """A private PostgreSQL that does not care for its disk. In the same directory and port it is the same one again.

    It refuses to run as root; then it runs as the user `postgres` or `nobody`, in a directory that is theirs.
    """
    chosen = port or free_port()
    made = None if directory else Path(tempfile.mkdtemp(prefix="meadow-postgres-"))
    home = directory or made
    assert home is not None
    home.mkdir(parents=True, exist_ok=True)
    user = _postgres_user()
    if user:
        shutil.chown(home, *user)
    data, as_user = home / "data", {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
    if not data.exists():
        words = ["-U", "meadow", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [_postgres_program("initdb"), "-D", str(data), *words]
        subprocess.run(command, check=True, capture_output=True, cwd=home, **as_user)  # type: ignore[call-overload]
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(chosen),
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (home / "postgres.log").open("ab") as log:
        command = [_postgres_program("postgres"), "-D", str(data), *words]
        process: subprocess.Popen[bytes] = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **as_user)  # type: ignore[call-overload]
    try:
        wait_for_port(chosen, process)
        _wait_for_postgres(chosen)
        yield Postgres(home, chosen, process)
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown, which ends its children too
        process.wait(timeout=20.0)
        if made is not None:
            shutil.rmtree(made)


def _postgres_program(name: str) -> str:
    """A program of the newest PostgreSQL; Debian keeps those of the server off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else program(name)


def _postgres_user() -> tuple[str, str] | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return name, grp.getgrgid(entry.pw_gid).gr_name
    raise AssertionError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _wait_for_postgres(port: int) -> None:
    import psycopg

    end = time.monotonic() + 20.0
    while True:
        try:
            psycopg.connect(f"postgresql://meadow@127.0.0.1:{port}/postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL does not take connections"
            time.sleep(0.02)
