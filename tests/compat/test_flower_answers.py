"""What Flower 2.2 answered to recorded requests, Meadow answers too: started as Flower is, on a real cluster.

The steps that differ on purpose stand in the reference page, each with its reason: one that is not there fails, and so
does one that is there and does not differ.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from meadow.testing import eventually
from tests.compat.replay import RECORDINGS, WORKERS, Replay, steps
from tests.journeys.stage import Meadow, Stage
from tests.servers import RabbitMQ, running_redis

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "flower-compatibility.md"
ON_PURPOSE = re.compile(r"^\| `([a-z_]+)/([a-z0-9-]+)` \|", re.MULTILINE)
OPEN_API = {"FLOWER_UNAUTHENTICATED_API": "true"}


@dataclass
class Cluster(Stage):
    """A stage on which the workers of the recordings run."""

    def environment(self, **more: str) -> dict[str, str]:
        chosen = {"PYTHONPATH": str(Path(__file__).resolve().parent), "REPLAY_BROKER": self.broker}
        if self.backend:
            chosen["REPLAY_BACKEND"] = self.backend
        return super().environment(**chosen | more)

    def start_workers(self) -> None:
        """w1 with a plain pool, w2 scales itself, w3 lets its pool be restarted and is shut down in the end."""
        self.start_one("w1", "celery", "--concurrency=2")
        self.start_one("w2", "other", "--autoscale=2,1")
        self.start_one("w3", "third", "--concurrency=1", REPLAY_POOL_RESTARTS="1")

    def start_one(self, key: str, queue: str, pool: str, **environment: str) -> None:
        argv = ("celery", "-A", "proj", "worker", "-n", WORKERS[key], "-Q", queue, "-E", "-l", "WARNING", pool)
        self.start(*argv, **environment)

    async def start_flower(self, *options: str, **environment: str) -> Meadow:
        """Meadow under Flower's name, with a history of its own."""
        argv = ("celery", "-A", "proj", "flower", "--port=0", "--address=127.0.0.1", *options)
        return await self.start_meadow(*argv, XDG_STATE_HOME=str(self.directory / "flower"), **environment)


@pytest.fixture
def cluster(tmp_path: Path, redis_server: str) -> Iterator[Cluster]:
    made = Cluster(tmp_path, redis_server, redis_server.removesuffix("/0") + "/1")
    try:
        yield made
    finally:
        made.close()


def on_purpose(profile: str) -> set[str]:
    """The steps of a profile that the page says to differ."""
    return {step for name, step in ON_PURPOSE.findall(PAGE.read_text(encoding="utf-8")) if name == profile}


async def agrees(profile: str, meadow: Meadow) -> None:
    """Replay a profile and compare what differs with what should."""
    found = await asyncio.to_thread(Replay(meadow.url).differing, profile)
    expected = on_purpose(profile)
    said = [f"{profile}/{step}: {'; '.join(found[step])}" for step in found if step not in expected]
    said += [
        f"{profile}/{step}: agrees with Flower, though the page says that it differs" for step in expected - set(found)
    ]
    assert not said, "\n".join(said)


async def test_with_an_open_api(cluster: Cluster) -> None:
    cluster.start_workers()
    await agrees("main", await cluster.start_flower(**OPEN_API))


async def test_with_publishers_that_tell_what_they_send(cluster: Cluster) -> None:
    cluster.start_one("w1", "celery", "--concurrency=2")
    await agrees("sentevent", await cluster.start_flower(**OPEN_API, REPLAY_SENT_EVENT="1"))


async def test_read_only(cluster: Cluster) -> None:
    cluster.start_one("w1", "celery", "--concurrency=2")
    await agrees("read_only", await cluster.start_flower("--read-only", **OPEN_API))


@pytest.mark.parametrize(
    ("profile", "option", "environment"),
    [
        ("noapi", "", {}),
        ("basic_auth", "--basic-auth=user:pswd,second:pa:ss", {}),
        ("url_prefix", "--url-prefix=flower", OPEN_API),
        ("memory", "", OPEN_API | {"REPLAY_BROKER": "memory://"}),
        ("nobackend", "", OPEN_API | {"REPLAY_BACKEND": ""}),
    ],
)
async def test_without_workers(cluster: Cluster, profile: str, option: str, environment: dict[str, str]) -> None:
    options = [option] if option else []
    await agrees(profile, await cluster.start_flower(*options, **environment))


async def test_while_the_broker_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    with ExitStack() as broker:
        url = broker.enter_context(running_redis(tmp_path))
        meadow = await cluster.start_flower("--queue-interval=1", **OPEN_API, REPLAY_BROKER=url)
        await eventually(lambda: reads_events(meadow), timeout=20)
    await eventually(lambda: knows_no_lengths(meadow), timeout=30)
    await agrees("brokerdown", meadow)


async def knows_no_lengths(meadow: Meadow) -> bool:
    """Whether the last known lengths are too old to be told."""
    return await meadow.status("api/queues/length") == 500


async def reads_events(meadow: Meadow) -> bool:
    """Whether its collector is connected to the broker."""
    return bool((await meadow.get("api/v1/pipeline"))["collector"]["connected"])


async def test_on_rabbitmq(tmp_path: Path, redis_server: str, rabbitmq_server: RabbitMQ) -> None:
    stage = Cluster(tmp_path, rabbitmq_server.url, redis_server.removesuffix("/0") + "/1")
    try:
        stage.start_workers()
        await agrees("rabbitmq", await stage.start_flower(f"--broker-api={rabbitmq_server.api}", **OPEN_API))
    finally:
        stage.close()


def test_every_recording_is_replayed_and_the_page_names_real_steps() -> None:
    profiles = {path.stem for path in RECORDINGS.glob("*.jsonl")}
    replayed = {"main", "sentevent", "read_only", "noapi", "basic_auth", "url_prefix", "memory", "nobackend"}
    assert profiles == replayed | {"brokerdown", "rabbitmq"}
    named = ON_PURPOSE.findall(PAGE.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if name[1] not in {step["name"] for step in steps(name[0])}] == []
