"""`meadow demo`: from one command to living pages, and nothing left behind."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from meadow.testing import eventually
from tests.journeys.stage import Meadow, Stage

OPEN = re.compile(r"The demo runs\. Open (http\S+) and stop it with Ctrl-C\.")
STATES = {"SUCCESS", "FAILURE", "STARTED"}


@pytest.fixture
def bare_stage(tmp_path: Path) -> Iterator[Stage]:
    """A directory without any broker."""
    made = Stage(tmp_path, "nothing://")
    try:
        yield made
    finally:
        made.close()


async def test_the_demo_is_alive_and_leaves_nothing(bare_stage: Stage) -> None:
    temporary = bare_stage.directory / "tmp"
    temporary.mkdir()
    process = bare_stage.start("meadow", "demo", "--port=0", TMPDIR=str(temporary))
    said = await eventually(lambda: OPEN.search(process.text), timeout=30)
    assert said, process.text
    demo = Meadow(process, said.group(1))
    for page in ("", "tasks", "workers", "queues", "audit", "worker/orders@shop"):
        assert await demo.status(page) == 200

    async def states() -> bool:
        return {task["state"] for task in (await demo.get("api/tasks")).values()} >= STATES

    await eventually(states, timeout=90, every=0.5)
    assert "hunter2" not in str(await demo.get("api/tasks"))
    family = process.children()
    assert len(family) >= 6
    assert process.stop(signal.SIGINT) == 0
    await eventually(lambda: not [one for one in family if one.is_running()])
    assert list(temporary.iterdir()) == []
    assert not (bare_stage.directory / "state").exists()
    assert "Traceback" not in process.text, process.text
