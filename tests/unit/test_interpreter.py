"""What a process does about garbage once it has started. In a process of its own, since it cannot be taken back."""

import json
import subprocess
import sys

PROGRAM = """
import gc, json
from meadow import interpreter
from meadow.events import TaskStarted
interpreter.prepare()
fact = TaskStarted(uuid="a", hostname="w@h", timestamp=1.0, seen=1.0)
print(json.dumps({"frozen": gc.get_freeze_count(), "looks": gc.get_threshold()[0], "tracked": gc.is_tracked(fact)}))
"""


def test_what_is_there_at_the_start_is_not_looked_at_again_and_facts_never() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["frozen"] > 10_000
    assert found["looks"] > 700, "Python's own"
    assert found["tracked"] is False
