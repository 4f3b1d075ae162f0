"""Each command line that people are told of, run as written; and the wrong ones, with their hints."""

import re
import signal

import psutil
import pytest

from meadow.testing import eventually
from tests.journeys.stage import Stage
from tests.servers import free_port


@pytest.mark.parametrize(
    "argv",
    [
        ("celery", "-A", "shop", "flower", "--port={port}"),
        ("celery", "-A", "shop", "meadow", "--port={port}"),
        ("celery", "-A", "shop", "flower", "--address=127.0.0.1", "--port={port}", "--broker={broker}"),
        ("celery", "-A", "shop", "flower", "--port", "{port}", "--persistent=True", "--max_tasks=1000", "--db=x"),
        ("celery", "--broker={broker}", "flower", "--port={port}"),
        ("meadow", "serve", "-A", "shop", "--port={port}"),
        ("meadow", "serve", "-b", "{broker}", "--port={port}"),
    ],
)
async def test_a_command_line_from_the_guides_starts_and_shows_the_worker(stage: Stage, argv: tuple[str, ...]) -> None:
    port = free_port()
    stage.start_worker("w1@shop")
    meadow = await stage.start_meadow(*(word.format(port=port, broker=stage.broker) for word in argv))
    assert meadow.url == f"http://127.0.0.1:{port}/"
    await eventually(lambda: meadow.get("api/workers?status=1"), timeout=20)
    assert await meadow.get("api/workers?status=1") == {"w1@shop": True}
    workers = await eventually(lambda: meadow.get("api/workers"), timeout=20)
    assert "shop.add" in workers["w1@shop"]["registered"]
    children = meadow.process.children()
    assert meadow.process.stop() == 0
    assert not [child for child in children if psutil.pid_exists(child.pid)]


async def test_ctrl_c_ends_it_in_good_order(stage: Stage) -> None:
    meadow = await stage.start_meadow("celery", "-A", "shop", "flower", "--port=0")
    assert meadow.process.stop(signal.SIGINT) == 0
    assert "Traceback" not in meadow.process.text


async def test_while_it_waits_for_what_it_needs_it_can_be_ended(stage: Stage) -> None:
    meadow = stage.start("meadow", "run", "api", f"--nats-url=nats://127.0.0.1:{free_port()}", "--port=0")
    await eventually(lambda: "action=nats.unreachable" in meadow.text)
    assert meadow.stop(seconds=5.0) == 0
    assert "Traceback" not in meadow.text


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("celery", "flower", "-A", "shop"), 2, "celery -A celeryapp flower"),
        (("flower", "-A", "shop", "--port=5555"), 2, "celery -A proj flower --port=5555"),
        (("celery", "-A", "shop", "flower", "--prot=1"), 2, "--port"),
        (("celery", "-A", "shop", "flower", "--nosuch=1"), 2, "--nosuch"),
        (("celery", "-A", "shop", "flower", "port=5555"), 2, "Did you mean --port=5555?"),
        (("celery", "-A", "shop", "flower", "--port=high"), 2, "--port: 'high' is not a whole number"),
        (("celery", "-A", "shop", "flower", "--address=0.0.0.0"), 1, "--basic-auth"),
        (("celery", "-A", "shop", "flower", "--conf=missing.py"), 2, "missing.py does not exist"),
        (("meadow", "serve", "-A", "no_such_module"), 1, "no_such_module"),
        (("meadow", "-A", "shop"), 2, "meadow serve -A shop"),
        (("meadow", "run", "api"), 1, "--nats-url"),
        (("meadow", "run", "apy", "--nats-url=nats://127.0.0.1:1"), 2, "apy"),
        (("meadow", "serve", "-A", "shop", "--nats-server=/no/such/program"), 1, "--nats-server"),
    ],
)
def test_a_wrong_command_line_says_how_to_write_it(stage: Stage, argv: tuple[str, ...], code: int, says: str) -> None:
    done = stage.run(*argv)
    assert done.returncode == code, done.stderr
    assert says in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr


async def test_a_second_meadow_on_the_same_data_is_refused_and_on_a_used_port_too(stage: Stage) -> None:
    meadow = await stage.start_meadow("meadow", "serve", "-A", "shop", "--port=0")
    port = meadow.url.rstrip("/").rpartition(":")[2]
    same_data = stage.run("meadow", "serve", "-A", "shop", "--port=0")
    assert (same_data.returncode, "--data-dir" in same_data.stderr) == (1, True)
    same_port = stage.run("meadow", "serve", "-A", "shop", f"--port={port}", "--data-dir=other")
    assert (same_port.returncode, "--port" in same_port.stderr) == (1, True)


async def test_killed_with_its_children_gone_it_starts_again_at_once(stage: Stage) -> None:
    meadow = await stage.start_meadow("meadow", "serve", "-A", "shop", "--port=0")
    children = await eventually(lambda: all_ if len(all_ := meadow.process.children()) == 3 else None)
    meadow.process.kill()
    await eventually(lambda: not [child for child in children if child.is_running()])
    again = await stage.start_meadow("meadow", "serve", "-A", "shop", "--port=0")
    assert await again.status("healthcheck") == 200


async def test_an_unreachable_broker_is_said_and_pages_are_there(stage: Stage) -> None:
    broker = f"redis://:s3cret-word@127.0.0.1:{free_port()}/0"
    meadow = await stage.start_meadow("meadow", "serve", "-b", broker, "--port=0")
    await eventually(lambda: "broker" in meadow.process.text.lower() and "cannot be reached" in meadow.process.text)
    assert await meadow.status("") == 200
    doctor = stage.run("meadow", "doctor", "-b", broker, "--port=0", "--data-dir=other", seconds=60)
    assert doctor.returncode == 1
    assert "FAIL  broker" in doctor.stdout
    assert "s3cret-word" not in doctor.stdout + doctor.stderr + meadow.process.text


async def test_the_doctor_finds_a_healthy_cluster_healthy(stage: Stage) -> None:
    worker = stage.start_worker("w1@shop")
    await eventually(lambda: "w1@shop" in stage.run("celery", "-A", "shop", "status").stdout, timeout=30)
    doctor = stage.run("meadow", "doctor", "-A", "shop", "--port=0", seconds=60)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr + worker.text
    assert "All is well." in doctor.stdout
    meadow = await stage.start_meadow("meadow", "serve", "-A", "shop", f"--port={free_port()}")
    port = meadow.url.rstrip("/").rpartition(":")[2]
    beside = stage.run("meadow", "doctor", "-A", "shop", f"--port={port}", seconds=60)
    assert beside.returncode == 0, beside.stdout
    assert "is served by a Meadow" in beside.stdout
    assert "in use by the Meadow that runs" in beside.stdout
