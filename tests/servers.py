"""Real servers for tests, started on free ports of the loopback address and ended with the test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


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
