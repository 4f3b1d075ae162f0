"""Everything that tasks, workers and queues carry is hostile: on no page does any of it become markup."""

import time
from typing import Any

import pytest

from meadow import subjects
from meadow.audit import AuditIntent, AuditOutcome
from meadow.codec import encode
from meadow.events import (
    CollectorReported,
    QueueDepth,
    QueuesObserved,
    TaskFailed,
    TaskReceived,
    TaskSent,
    TaskSucceeded,
    WorkerHeartbeat,
    WorkerInspected,
)
from meadow.testing import eventually
from meadow_web.urls import segment
from tests.integration.web_stage import Document, MakeContext, Stage, web_stage

CORPUS = (
    "<script>boom()</script>",
    '"><img src=x onerror=boom()>',
    "'><svg/onload=boom()>",
    "</title></textarea></style><script src=//evil.example></script>",
    "javascript:boom()//",
    "{{ 7*7 }}{% raw %}<!--",
    "]]></script><b boom=1>",
    '" autofocus onfocus=boom() x="',
    "&lt;script&gt;boom()&lt;/script&gt;&#60;b&#62;",
    "\u2028\u202e<iframe srcdoc='<script>boom()</script>'>",
)
TABS = ("pool", "broker", "queues", "tasks", "limits", "config", "system", "other")
ELEMENTS = frozenset(
    """html head meta title link script body a nav img span ul ol li p header form input kbd div button main dialog svg
    use h1 h2 section table thead tbody tfoot tr th td time i b dl dt dd figure figcaption path rect select option label
    details summary pre small mark""".split()  # noqa: SIM905 - a list of words reads better as words
)


def tainted(value: Any, poison: str) -> dict[str, Any]:
    """An inspection in which every text is poison."""
    name = f"proj.{poison}"
    task = {"id": poison, "name": name, "args": poison, "kwargs": {poison: poison}, "worker_pid": poison}
    return {
        "stats": {
            "pool": {"implementation": poison, poison: poison},
            "broker": {poison: poison},
            "rusage": {poison: poison},
            "total": {name: 1},
            "autoscaler": {poison: poison},
            poison: [poison],
        },
        "active_queues": [{"name": poison, "routing_key": poison, "alias": poison}],
        "registered": [f"{name} [rate_limit={poison}]"],
        "conf": {poison: poison},
        "active": [task],
        "reserved": [task],
        "scheduled": [{"eta": poison, "request": task}],
        "revoked": [poison],
    }


async def poison_everything(stage: Stage, poison: str) -> tuple[str, str]:
    """Publish facts whose every text is poison; the task's id and the worker's name."""
    now = time.time()
    uuid, worker = f"id-{poison}", f"w@{poison}"
    common: dict[str, Any] = {"uuid": uuid, "hostname": worker, "seen": now, "pid": 1}
    await stage.say(
        TaskSent(**common, timestamp=now - 2, clock=1, name=poison, queue=poison, exchange=poison, routing_key=poison),
        TaskReceived(
            **common,
            timestamp=now - 1,
            clock=2,
            name=poison,
            args=f"({poison!r}, {{{poison!r}: [{poison}]}})",
            kwargs=f"{{'a': {poison}}}",
            root_id=poison,
            parent_id=poison,
            eta=poison,
            expires=poison,
        ),
        TaskFailed(
            **common,
            timestamp=now,
            clock=3,
            exception=poison,
            traceback=f'Traceback\n  File "{poison}", line 3, in {poison}\n    {poison}\n{poison}',
        ),
    )
    done = common | {"uuid": f"done-{poison}"}
    await stage.say(
        TaskReceived(**done, timestamp=now, clock=4, name=poison, args=poison, root_id=poison),
        TaskSucceeded(**done, timestamp=now + 1, clock=5, result=f"{{{poison!r}: {poison}}}", runtime=0.5),
    )
    await stage.say(
        WorkerHeartbeat(
            hostname=worker, timestamp=now, seen=now, sw_ident=poison, sw_ver=poison, sw_sys=poison, active=1
        ),
        WorkerInspected(hostname=worker, seen=now, replies=tainted(None, poison)),
        kind=subjects.WORKERS,
    )
    await stage.say(
        QueuesObserved(seen=now, queues=(QueueDepth(name=poison, messages=5),), error=poison), kind=subjects.QUEUES
    )
    await stage.say(
        CollectorReported(seen=now, broker=poison, connected=False, since=now, error=poison), kind=subjects.COLLECTOR
    )
    for target, number in ((uuid, "1"), (worker, "2")):
        intent = AuditIntent(
            id=f"{poison}{number}",
            cluster="default",
            at=now,
            actor=poison,
            actor_kind="user",
            source=poison,
            command=poison,
            target=target,
            parameters={poison: poison},
            reason=poison,
        )
        outcome = AuditOutcome(
            id=intent.id, cluster="default", at=now, code=poison, message=poison, replies={poison: poison}
        )
        for record in (intent, outcome):
            await stage.bus.append(subjects.audit("default"), encode(record))
    return uuid, worker


def check(page: Document, where: str) -> None:
    """No element, attribute or address that our templates do not have."""
    for element in page.elements:
        assert element.tag in ELEMENTS, f"{where}: <{element.tag}>"
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"{where}: {element}"
            assert "boom" not in name, f"{where}: {element}"
            assert name not in ("srcdoc", "style"), f"{where}: {element}"
            if name in ("href", "src", "action", "formaction"):
                assert value.startswith(("/", "#", "https://docs.celeryq.dev/")), f"{where}: {element}"
                assert not value.startswith("//"), f"{where}: {element}"
    for script in page.all("script"):
        assert script.attributes["src"].startswith("/static/"), where
        assert not script.text.strip(), where


@pytest.mark.parametrize("poison", CORPUS, ids=range(len(CORPUS)))
async def test_nothing_that_a_task_or_worker_carries_becomes_markup(make_context: MakeContext, poison: str) -> None:
    async with web_stage(make_context, tasks_columns=_ALL_COLUMNS) as stage:
        uuid, worker = await poison_everything(stage, poison)
        task_page, worker_page = f"/task/{segment(uuid)}", f"/worker/{segment(worker)}"

        async def audited() -> bool:
            return "What people did to it" in (await stage.get(task_page)).words()

        await eventually(audited)
        query = segment(poison)
        paths = [
            "/",
            "/tasks",
            f"/tasks?search={query}&state={query}&name={query}&worker={query}&sort={query}",
            f"/tasks?search=(%22{query}",
            task_page,
            f"/task/{segment('done-' + poison)}",
            "/workers",
            *(f"{worker_page}?tab={tab}" for tab in TABS),
            "/queues",
            "/audit",
            f"/audit?target={query}&actor={query}",
        ]
        for path in paths:
            page = await stage.get(path)
            check(page, path)
        for path in (f"/{query}", f"/task/{query}", f"/worker/{query}"):
            check(await stage.get(path, status=404), path)
        check(await stage.get(f"/tasks?cursor={query}", status=400), "a stale cursor")
        for action in ("terminate", "cancel-consumer"):
            form = {"task_id": uuid, "worker": worker, "queue": poison, "next": poison}
            async with stage.client.post(f"/do/{action}", data=form) as response:
                assert response.status == 200
                check(Document(await response.text()), action)
        tab = await stage.tab(task_page)
        message = await tab.receive_json(timeout=10.0)
        check(Document(message["html"]), "live")


_ALL_COLUMNS = (
    "name",
    "uuid",
    "state",
    "args",
    "kwargs",
    "result",
    "received",
    "started",
    "runtime",
    "worker",
    "queue",
    "exchange",
    "routing_key",
    "retries",
    "revoked",
    "exception",
    "expires",
    "eta",
)
