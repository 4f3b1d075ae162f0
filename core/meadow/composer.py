"""The whole map: which services run in this process, what they are given, and how they start and stop together."""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pluggy

from meadow import interpreter, plugins
from meadow.access.claims import Signer
from meadow.access.gate import Gate, check_exposure, is_loopback
from meadow.broker import BrokerConfig
from meadow.bus import Bus, StreamLimits
from meadow.data_directory import DataDirectoryLock
from meadow.errors import BusError, StartRefused
from meadow.http import HttpServer, build_application
from meadow.nats_server import EmbeddedNats, find_binary
from meadow.redact import broker_without_passwords
from meadow.rooms import room
from meadow.service import Context, Service, Watch
from meadow.settings import Settings
from meadow.supervise import STOP_TIMEOUT, ChildProcess, Children

log = logging.getLogger(__name__)

SERVICES = ("collector", "api", "controller", "metrics", "web")
"""In the order in which they start; they stop in the opposite one."""

PORTS = {"web": 5555, "api": 5556, "metrics": 5557, "controller": 5558, "collector": 5559}
"""Where each service listens when it runs alone and --port is not given."""

STOP_DEADLINE = STOP_TIMEOUT + 4.0


@dataclass(frozen=True)
class Plan:
    """What to run. With `collector_child`, the collector is a process of its own below this one."""

    settings: Settings
    services: tuple[str, ...]
    collector_child: bool = False
    celery_app: Any = None
    broker: BrokerConfig | None = None
    started: Callable[[str], Coroutine[Any, Any, None]] | None = None
    """Run once everything is started, with the address to open."""


def plan_serve(settings: Settings, celery_app: Any = None) -> Plan:
    """Everything on one port."""
    app = celery_app if celery_app is not None else room("controller", "celery_app").load(settings)
    broker = room("collector", "celery_app").describe(app, settings)
    here = tuple(name for name in SERVICES if name != "collector")
    return Plan(with_data_dir(settings, broker), here, collector_child=True, celery_app=app, broker=broker)


def plan_run(settings: Settings, services: Sequence[str]) -> Plan:
    """Some services in this process, the others elsewhere on the same NATS."""
    if settings.nats_url is None:
        raise StartRefused(
            "Services in processes of their own need one NATS that they share: start 'nats-server -js' "
            "and give its address with --nats-url. ('meadow serve' needs none.)"
        )
    app, broker = None, None
    if "controller" in services:
        app = room("controller", "celery_app").load(settings)
    if "collector" in services:
        collector_app = room("collector", "celery_app")
        found = collector_app.load(settings.app) if settings.app else collector_app.build_app(settings)
        broker = collector_app.describe(found, settings)
    ordered = tuple(name for name in SERVICES if name in services)
    return Plan(with_data_dir(settings, broker), ordered, celery_app=app, broker=broker)


def with_data_dir(settings: Settings, broker: BrokerConfig | None) -> Settings:
    """The settings with an absolute data directory; by default one for each cluster and broker."""
    if settings.data_dir is not None:
        return replace(settings, data_dir=str(Path(settings.data_dir).expanduser().absolute()))
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    # Two projects on one machine, or one that changes its broker, must not share a history.
    mark = hashlib.sha256((broker.url if broker else settings.nats_url or "").rpartition("@")[2].encode()).hexdigest()
    return replace(settings, data_dir=str(state / "meadow" / f"{settings.cluster}-{mark[:8]}"))


def located(settings: Settings) -> Settings:
    """The settings with the data directory that Meadow uses when it runs with them."""
    alone = settings.nats_url is not None and settings.app is None and settings.broker is None
    if alone or settings.data_dir is not None or settings.store:
        return with_data_dir(settings, None)
    app = room("controller", "celery_app").load(settings)
    return with_data_dir(settings, room("collector", "celery_app").describe(app, settings))


async def run(plan: Plan) -> None:
    """Run until SIGTERM or SIGINT, or until something fails that cannot be mended; raises what failed."""
    os.umask(0o077)  # streams, store and logs hold what tasks carry
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    watch = Watch()
    async with AsyncExitStack() as stack:
        failed = asyncio.create_task(watch.failed(), name="watch for failures")
        asked = asyncio.create_task(stopping.wait(), name="wait for a signal")
        stack.callback(failed.cancel)
        stack.callback(asked.cancel)
        composing = asyncio.create_task(compose(plan, stack, watch), name="compose")
        await asyncio.wait({composing, failed, asked}, return_when=asyncio.FIRST_COMPLETED)
        if await _is_composed(composing):
            interpreter.prepare()
            if plan.started is not None:
                watch.start("after the start", plan.started(composing.result().url))
            await asyncio.wait({failed, asked}, return_when=asyncio.FIRST_COMPLETED)
        log.info("Stopping.", extra={"action": "meadow.stopping"})
        await stack.aclose()
    if watch.failure is not None:
        raise StartRefused(f"Meadow stopped because a part of it failed: {watch.failure}") from watch.failure


async def _is_composed(composing: "asyncio.Task[HttpServer]") -> bool:
    """Whether everything was started; if a signal or a failure came first, that is given up. Raises what refused."""
    if composing.done():
        composing.result()
        return True
    composing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await composing
    return False


async def compose(plan: Plan, stack: AsyncExitStack, watch: Watch) -> HttpServer:
    """Start everything of the plan; leaving `stack` stops it in the opposite order."""
    settings = plan.settings
    loopback = check_exposure(settings)
    server = HttpServer(settings)
    stack.callback(_close_sockets, server)
    server.bind()
    # Replicas of the api that share a PostgreSQL keep nothing of their own there.
    if plan.collector_child or ("api" in plan.services and not settings.store):
        stack.enter_context(DataDirectoryLock(Path(settings.data_dir or ".")))
    children = Children()
    stack.push_async_callback(children.close)
    if "api" in plan.services:
        await children.spawn("keeper", heard=True)  # nothing can be shown before it has opened the store
    bus = await stack.enter_async_context(_bus(settings, watch))
    manager, _ = plugins.load()
    gate = await _gate(settings, manager, bus, loopback)
    context = Context(
        settings=settings,
        bus=bus,
        plugins=manager,
        gate=gate,
        watch=watch,
        siblings=frozenset(plan.services),
        children=children,
        celery_app=plan.celery_app,
    )
    services = watch.services = [_build(name, context, plan) for name in plan.services]
    stack.push_async_callback(watch.stop)
    watch.start("loop lag", watch.loop_lag.run())
    stack.push_async_callback(_stop_services, services)
    for service in services:
        await service.listen()
    await server.start(build_application(settings, gate, services, health=watch.health))
    stack.push_async_callback(server.stop)
    # Those who hold callers and browsers send them home before the server waits for them; the store closes last.
    stack.push_async_callback(_stop_services, [service for service in services if service.name != "api"])
    for service in services:
        await service.speak()
    if plan.collector_child and plan.broker is not None:
        child = ChildProcess("collector", settings, bus.url, plan.broker, children=children)
        stack.push_async_callback(child.stop)
        watch.start("collector child", child.supervise())
    _announce(plan, server, loopback=loopback)
    return server


def _close_sockets(server: HttpServer) -> None:
    for sock in server.sockets:
        sock.close()


def _build(name: str, context: Context, plan: Plan) -> Service:
    module = room(name, "service")
    built: Service = module.build(context, plan.broker) if name == "collector" else module.build(context)
    return built


@asynccontextmanager
async def _bus(settings: Settings, watch: Watch) -> AsyncIterator[Bus]:
    limits = StreamLimits(max_age=settings.stream_days * 86400.0, max_bytes=settings.stream_bytes)
    async with AsyncExitStack() as stack:
        url = settings.nats_url
        if url is None:
            directory = Path(settings.data_dir or ".") / "nats"
            embedded = EmbeddedNats(directory, find_binary(settings.nats_server))
            await embedded.start()
            stack.push_async_callback(embedded.stop)
            watch.start("nats-server child", embedded.supervise())
            url = embedded.url
        if settings.nats_url is not None:
            _warn_of_open_nats(settings)
        bus = await Bus.connect(url, name="meadow", patience=0.0 if settings.nats_url is None else 30.0)
        stack.push_async_callback(bus.close)
        await bus.declare_streams(limits)
        yield bus


def _warn_of_open_nats(settings: Settings) -> None:
    """Whoever can publish on NATS can read everything, and with the shared key command everything."""
    where = urlsplit(settings.nats_url or "")
    if where.username is None and not is_loopback(where.hostname or "") and not settings.cookie_secret:
        log.warning(
            "NATS at %s takes connections without a password: whoever reaches it can control your workers. Give it "
            "users, and Meadow its address as nats://user:password@host.",
            where.netloc,
            extra={"action": "nats.open"},
        )


async def _gate(settings: Settings, manager: pluggy.PluginManager, bus: Bus, loopback: bool) -> Gate:
    if settings.cookie_secret:
        key = hashlib.sha256(b"meadow actor claims\0" + settings.cookie_secret.encode()).digest()
    else:
        key = await bus.shared_key("claims", secrets.token_bytes(32))
    sign_ins = [sign_in for group in manager.hook.register_sign_in(settings=settings) for sign_in in group]
    if settings.signs_in and not sign_ins:
        raise StartRefused("Sign-in is configured, but no plugin offers it. See 'meadow plugins'. Nothing was opened.")
    return Gate(settings, sign_ins, Signer(key), loopback=loopback)


async def _stop_services(services: Sequence[Service]) -> None:
    for service in reversed(services):
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await service.stop()
        except TimeoutError:
            log.warning("%s did not stop in time.", service.name, extra={"action": "service.late"})
        except BusError as exc:
            log.warning("%s stopped without NATS: %s", service.name, exc, extra={"action": "service.stopped"})


def _announce(plan: Plan, server: HttpServer, *, loopback: bool) -> None:
    if plan.settings.quiet:
        return
    if plan.broker is not None:
        log.info("Broker: %s", broker_without_passwords(plan.broker.url), extra={"action": "meadow.broker"})
    if loopback and not plan.settings.signs_in:
        log.info(
            "Nobody has to sign in, so only this machine can connect. To open it: --basic-auth=user:password.",
            extra={"action": "meadow.loopback"},
        )
    if "web" in plan.services:
        log.info("Visit me at %s", server.url, extra={"action": "meadow.started"})
    else:
        log.info(
            "%s runs, its state is at %shealthcheck",
            ", ".join(plan.services),
            server.url,
            extra={"action": "meadow.started"},
        )
