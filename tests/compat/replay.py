"""Sends recorded requests to a running server, and says where its answers differ from the recorded ones.

A recording is a file of lines, each a step: a request, conditions to wait for before it, and the answer (none: the
step only prepares later ones). `{w1}` stands for a worker, `{id.NAME}` for a task id that each run chooses anew,
`{host}` for the server. The conditions:

    ["task", NAME, STATE]    /api/task/info shows the task in that state
    ["online", "w1", BOOL]   /api/workers?status=1 says so of the worker
    ["heartbeat", "w1"]      /workers?json=1 knows its load
    ["processes", "w1", N]   its pool has so many processes
    ["queues", N]            /api/queues/length has the statistics of so many queues
"""

import http.client
import json
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.compat.agreement import Answer, differences

RECORDINGS = Path(__file__).resolve().parent / "flower_answers"
WORKERS = {"w1": "w1@golden", "w2": "w2@golden", "w3": "w3@golden"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PATIENCE = 30.0

Step = dict[str, Any]


def steps(profile: str) -> list[Step]:
    """The recording of a profile."""
    lines = (RECORDINGS / f"{profile}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _encoded(pairs: list[list[str]]) -> str:
    return urlencode([(name, value) for name, value in pairs])


@dataclass
class Replay:
    """One run against the server at `url`; blocking."""

    url: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    ids: dict[str, str] = field(default_factory=dict)

    def differing(self, profile: str) -> dict[str, list[str]]:
        """All steps whose answers differ, by name, with the differences."""
        found: dict[str, list[str]] = {}
        for step in steps(profile):
            problems = [f"waited in vain for {c}" for c in step.get("wait", ()) if not self._comes(c)]
            given = self._send(step)
            if "answer" in step:
                problems += differences(step, Answer(**step["answer"]), given)
            if problems:
                found[step["name"]] = problems
        return found

    # -- requests --------------------------------------------------------------------------------------------------

    def _send(self, step: Step) -> Answer:
        headers, body = dict(self._fill(step.get("headers", {}))), b""
        if "body" in step or "raw" in step:
            text = step["raw"] if "raw" in step else json.dumps(self._fill(step["body"]), ensure_ascii=False)
            body = self._fill(text).encode()
            headers["Content-Type"] = "application/json"
        elif "form" in step:
            body = _encoded(self._fill(step["form"])).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self._request(step["method"], self._fill(step["path"]), self._fill(step.get("query")), body, headers)

    def _request(self, method: str, path: str, query: Any, body: bytes = b"", headers: Any = None) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20.0)
        target = quote(path, safe="/%@:.,-_~+") + (f"?{_encoded(query)}" if query else "")
        try:
            connection.request(method, target, body=body or None, headers=headers or {})
            response = connection.getresponse()
            return self._answer(response, response.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def _answer(self, response: http.client.HTTPResponse, text: str) -> Answer:
        kind = response.headers.get("Content-Type")
        named = self._with_names(text)
        headers = {name: self._with_names(value) for name, value in response.headers.items()}
        if kind is not None and kind.startswith("application/json"):
            try:
                return Answer(response.status, kind, headers, body=json.loads(named))
            except ValueError:
                pass
        return Answer(response.status, kind, headers, text=named)

    def _fill(self, value: Any) -> Any:
        """The value with this run's names in it."""
        if isinstance(value, str):
            value = re.sub(r"\{id\.(\w+)\}", lambda found: self._task_id(found[1]), value)
            for key, name in WORKERS.items():
                value = value.replace(f"{{{key}}}", name)
            return value.replace("{host}", urlsplit(self.url).netloc)
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if isinstance(value, dict):
            return {self._fill(key): self._fill(item) for key, item in value.items()}
        return value

    def _with_names(self, text: str) -> str:
        """The text without what differs from run to run."""
        for name, value in self.ids.items():
            text = text.replace(value, f"<id:{name}>")
        return UUID.sub("<uuid>", text.replace(urlsplit(self.url).netloc, "<host>"))

    def _task_id(self, name: str) -> str:
        return self.ids.setdefault(name, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run}/{name}")))

    # -- conditions ------------------------------------------------------------------------------------------------

    def _comes(self, condition: list[Any]) -> bool:
        end = time.monotonic() + PATIENCE
        while not self._holds(*condition):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _holds(self, kind: str, *about: Any) -> bool:
        if kind == "task":
            info = self._read(f"/api/task/info/{self._task_id(about[0])}") or {}
            return bool(info.get("state") == about[1])
        if kind == "online":
            known = self._read("/api/workers", [["status", "1"]]) or {}
            return known.get(WORKERS[about[0]]) is about[1]
        if kind == "heartbeat":
            rows = (self._read("/workers", [["json", "1"]]) or {}).get("data", [])
            return any(row["hostname"] == WORKERS[about[0]] and row.get("loadavg") for row in rows)
        if kind == "processes":
            name = WORKERS[about[0]]
            answer = self._read("/api/workers", [["refresh", "1"], ["workername", name]]) or {}
            return len(answer.get(name, {}).get("stats", {}).get("pool", {}).get("processes", ())) == about[1]
        if kind == "queues":
            queues = (self._read("/api/queues/length") or {}).get("active_queues", [])
            return len([queue for queue in queues if "idle_since" in queue]) == about[0]
        raise ValueError(kind)

    def _read(self, path: str, query: Any = None) -> Any:
        answer = self._request("GET", path, query)
        return answer.body if answer.status == 200 else None
