"""Real workers, and a controller on a real bus, for the controller's tests."""

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from meadow import codec, subjects
from meadow.access.actors import Actor
from meadow.access.claims import Signer
from meadow.audit import AnyAuditRecord, AuditIntent, AuditOutcome
from meadow.bus import Bus
from meadow.commands import AnyCommand, CommandReply, CommandRequest
from meadow.service import Context
from meadow.testing import KEY
from meadow_controller.service import ControllerService, build
from tests.servers import free_port, running_redis

ROOT = Path(__file__).parents[3]
ANNA = Actor("anna", "user", "admin", "test")
VIEWER = Actor("victor", "user", "viewer", "test")

PLAIN = ("plain@stage", "celery", ("--concurrency=2",))
SCALING = ("scaling@stage", "other", ("--autoscale=3,1",))
RESTARTING = ("restarting@stage", "third", ("--concurrency=1",))


@dataclass
class Stage:
    """A broker, a result backend, and workers on them."""

    url: str
    backend: str
    directory: Path
    transport_options: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def app(self, **configuration: Any) -> Celery:
        """The app as the controller sees it: with the tasks, in this process."""
        from tests.integration.apps import control_app

        made = Celery("control_app", broker=self.url, backend=self.backend, set_as_current=False)
        made.conf.update({key: control_app.app.conf[key] for key in CONFIGURATION})
        made.conf.update({"broker_transport_options": self.transport_options} | configuration)
        for name in ("add", "fail", "sleep", "now", "mark"):
            made.task(name=f"control.{name}", shared=False)(getattr(control_app, name).run)
        return made

    def start_worker(self, name: str, queue: str, options: tuple[str, ...], **environment: str) -> None:
        """Start a worker; `wait_for_workers` waits until it answers."""
        argv = [sys.executable, "-m", "celery", "-A", "tests.integration.apps.control_app", "worker"]
        argv += ["-n", name, "-Q", queue, "-E", "-l", "WARNING", *options]
        env = {**os.environ, "CONTROL_BROKER": self.url, "CONTROL_BACKEND": self.backend, **environment}
        env["CONTROL_TRANSPORT_OPTIONS"] = json.dumps(self.transport_options)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, cwd=ROOT, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait_for_workers(self, *names: str, seconds: float = 60.0) -> None:
        """Return when all of them answer a ping."""
        app, end = self.app(), time.monotonic() + seconds
        while True:
            answered = {name for reply in app.control.ping(list(names), timeout=1.0) or () for name in reply}
            if answered >= set(names):
                app.close()
                return
            assert time.monotonic() < end, f"only {answered} of {names} answer; see {self.directory}"

    def kill(self, name: str) -> None:
        """Kill the worker and its pool at once, so that it cannot say goodbye."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)  # its own session: only what was started here
        process.wait()

    def close(self) -> None:
        """End what still runs."""
        for name in list(self.processes):
            self.kill(name)


CONFIGURATION = ("task_serializer", "result_serializer", "accept_content", "enable_utc", "timezone")


@contextmanager
def running_stage(directory: Path, *, workers: bool = True) -> Iterator[Stage]:
    """A stage with three workers: a plain one, one that scales by itself, one whose pool may be restarted."""
    with running_redis(directory, free_port()) as url:
        stage = Stage(url, url.removesuffix("/0") + "/1", directory)
        try:
            if workers:
                stage.start_worker(*PLAIN)
                stage.start_worker(*SCALING)
                stage.start_worker(*RESTARTING, CONTROL_POOL_RESTARTS="1")
                stage.wait_for_workers(PLAIN[0], SCALING[0], RESTARTING[0])
            yield stage
        finally:
            stage.close()


@dataclass
class Desk:
    """A controller at work, and somebody who gives it commands."""

    context: Context
    service: ControllerService

    @property
    def bus(self) -> Bus:
        """The bus that it listens on."""
        return self.context.bus

    async def wish(
        self,
        command: AnyCommand,
        *,
        actor: Actor = ANNA,
        claim: str | None = None,
        reason: str = "",
        timeout: float = 30.0,
    ) -> CommandReply:
        """Send a command as `actor` and give the reply."""
        signed = Signer(KEY).sign(actor, now=time.time()) if claim is None else claim
        cluster = self.context.settings.cluster
        request = CommandRequest(cluster=cluster, command=command, claim=signed, source="10.0.0.7", reason=reason)
        data = await self.bus.ask(subjects.command(cluster), codec.encode(request), timeout=timeout)
        return codec.decode(data, CommandReply)

    async def audit(self) -> list[AnyAuditRecord]:
        """Everything in the audit stream."""
        return [codec.decode(data, AnyAuditRecord) for data in await self.stream(subjects.AUDIT_STREAM, "audit.>")]  # type: ignore[arg-type]

    async def record(self, reply: CommandReply) -> tuple[AuditIntent, AuditOutcome]:
        """What was recorded about the command with this reply."""
        intent, outcome = [record for record in await self.audit() if record.id == reply.audit_id]
        assert isinstance(intent, AuditIntent)
        assert isinstance(outcome, AuditOutcome)
        return intent, outcome

    async def stream(self, stream: str, subject: str) -> list[bytes]:
        """All messages that a stream holds now."""
        last = (await self.bus.stream_state(stream)).last
        found: list[bytes] = []
        if last == 0:
            return found
        async for messages in self.bus.read(stream, after=0, subject=f"meadow.{subject}"):
            found.extend(message.data for message in messages)
            if not messages or messages[-1].sequence >= last:
                break
        return found


@asynccontextmanager
async def working_controller(
    make_context: Callable[..., Context], app: Celery | None, *, speak: bool = False, **settings: Any
) -> AsyncIterator[Desk]:
    """A controller that listens, and with `speak` also inspects and enables events."""
    context = dataclasses.replace(make_context(**settings), celery_app=app)
    service = build(context)
    await service.listen()
    if speak:
        await service.speak()
    try:
        yield Desk(context, service)
    finally:
        await service.stop()
        await context.watch.stop()
        if app is not None:
            await asyncio.to_thread(app.close)
