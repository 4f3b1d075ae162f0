"""Real servers for tests, started on free ports of the loopback address and ended with the test."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
