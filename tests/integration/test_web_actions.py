"""Buttons, pressed for real: a form, a confirmation, a controller on a real broker, the audit page."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meadow.events import TaskFailed, TaskReceived
from meadow.testing import eventually
from tests.integration.apps.control_stage import running_stage, working_controller
from tests.integration.web_stage import Document, MakeContext, Stage, web_stage

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def stage(make_context: MakeContext, tmp_path: Path) -> AsyncIterator[Stage]:
    with running_stage(tmp_path, workers=False) as broker:
        async with working_controller(make_context, broker.app()), web_stage(make_context) as made:
            now = time.time()
            await made.say(
                TaskReceived(uuid="t-1", hostname="w1@h", timestamp=now, seen=now, clock=1, name="proj.mail", pid=1)
            )
            yield made


async def press(stage: Stage, page: Document, action: str, **more: str) -> tuple[int, str, Document]:
    """Submit the form of `action` on a page, as a browser without JavaScript does: status, Location, page."""
    start = page.html.index(f'action="/do/{action}"')
    form = Document(page.html[start : page.html.index("</form>", start)])
    fields = {
        element.attributes["name"]: element.attributes.get("value", "")
        for element in form.all("input")
        if "name" in element.attributes
    }
    async with stage.client.post(
        f"/do/{action}", data=fields | more, headers=SAME_SITE, allow_redirects=False
    ) as response:
        return response.status, response.headers.get("Location", ""), Document(await response.text())


async def test_a_revocation_is_confirmed_done_told_and_audited_without_javascript(stage: Stage) -> None:
    page = await stage.get("/task/t-1")
    status, _, confirmation = await press(stage, page, "revoke")
    assert status == 200
    assert "proj.mail (t-1) will not be run. It waits in w1@h." in confirmation.words()
    assert confirmation.one("a", data_cancel="").attributes["href"] == "/task/t-1"
    assert "autofocus" in confirmation.one("a", data_cancel="").attributes

    status, location, _ = await press(stage, confirmation, "revoke", reason="no longer wanted")
    assert status == 303
    assert location.startswith("/task/t-1?flash=")
    done = await stage.get(location)
    assert "Sent to all workers: revoke t-1" in done.one("div", data_toast="").text
    assert done.one("body").attributes["data-view"] == "/task/t-1"

    async def audited() -> bool:
        words = (await stage.get("/audit?target=t-1")).words()
        said = ("anonymous", "127.0.0.1", "revoke", "Sent to all workers", "no longer wanted")
        return all(part in words for part in said)

    await eventually(audited)


async def test_a_termination_of_what_nobody_knows_is_not_said_to_be_done(stage: Stage) -> None:
    fields = {"task_id": "nosuch", "signal": "SIGKILL", "confirmed": "yes"}
    headers = SAME_SITE | {"X-Meadow-Fragment": "1"}
    async with stage.client.post("/do/terminate", data=fields, headers=headers) as response:
        toast = Document(await response.text()).one("div", data_toast="")
    assert "Sent to all workers: terminate nosuch with SIGKILL" in toast.text
    assert "No such task is known here." in toast.text

    async def audited() -> bool:
        words = (await stage.get("/audit?target=nosuch")).words()
        return (
            "terminate (SIGKILL)" in words
            and "Done" not in words
            and "Revoked" not in words
            and "Sent to all workers" in words
        )

    await eventually(audited)


async def fail_a_task(stage: Stage) -> None:
    now = time.time()
    common: dict[str, Any] = {"hostname": "w1@h", "seen": now, "pid": 1}
    for uuid, args in (("t-9", "('<b>ada</b>', (1, 2))"), ("t-cut", "('aaa...', 1)")):
        await stage.say(
            TaskReceived(**common, uuid=uuid, timestamp=now, clock=2, name="control.fail", args=args, kwargs="{}"),
            TaskFailed(**common, uuid=uuid, timestamp=now, clock=3, exception="ValueError('no')"),
        )


async def test_a_task_is_run_again_as_a_new_one_with_its_arguments_edited_without_javascript(stage: Stage) -> None:
    await fail_a_task(stage)
    page = await stage.get("/task/t-9")
    status, _, confirmation = await press(stage, page, "run-again")
    assert status == 200
    assert "control.fail is sent to the queue that the app chooses" in confirmation.words()
    assert "as a new task with a new id" in confirmation.words()
    assert "taken from what the worker reported" in confirmation.words()
    assert [area.text.strip() for area in confirmation.all("textarea")] == ['["<b>ada</b>", [1, 2]]', "{}"]
    assert not confirmation.all("b")

    typed = '["<i>x</i>", </textarea><script>'
    status, _, again = await press(stage, confirmation, "run-again", args=typed, kwargs='{"y": 1}', reason="why not")
    assert status == 400
    assert "The arguments are not JSON that can be sent" in again.one("p", role="alert").text
    assert [area.text.strip() for area in again.all("textarea")] == [typed, '{"y": 1}']
    assert again.one("input", name="reason").attributes["value"] == "why not"
    assert all(script.attributes.get("src") for script in again.all("script"))

    status, location, _ = await press(stage, again, "run-again", args='["x"]', kwargs="{}")
    assert status == 303
    toast = await stage.get(location)
    link = next(a.attributes["href"] for a in toast.all("a") if a.text == "Open the new task")
    assert re.fullmatch(r"/task/[0-9a-f-]{36}", link)

    async def audited() -> bool:
        words = (await stage.get("/audit?target=control.fail")).words()
        return all(part in words for part in ("send-task", "Done", "why not", link.removeprefix("/task/")))

    await eventually(audited)


async def test_a_call_that_was_cut_is_not_offered_again_and_not_sent_either(stage: Stage) -> None:
    await fail_a_task(stage)
    page = await stage.get("/task/t-cut")
    assert "Run again: the arguments were cut before they came here." in page.words()
    start = page.html.index('action="/do/run-again"')
    assert "disabled" in page.html[start : page.html.index("</form>", start)]
    status, _, refused = await press(stage, page, "run-again")
    assert status == 400
    assert "cut before they came here" in refused.words()
    fields = {"task_id": "nosuch"}
    async with stage.client.post("/do/run-again", data=fields, headers=SAME_SITE) as response:
        assert response.status == 404


BODIES: list[tuple[str, bytes]] = [
    ("application/x-www-form-urlencoded; charset=foo", b"task_id=t-1"),
    ("application/x-www-form-urlencoded; charset=utf-16", b"a"),
    ("application/x-www-form-urlencoded", b"task_id=\xff\xfe"),
    ("multipart/form-data", b"x"),
    ("multipart/form-data; boundary=x", b"nothing of that kind"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--x--\r\n"),
    ("multipart/form-data; boundary=" + "x" * 100, b"x"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Transfer-Encoding: odd\r\n\r\na\r\n--x--\r\n"),
]


@pytest.mark.parametrize(("kind", "body"), BODIES, ids=str)
async def test_a_form_that_cannot_be_read_is_the_clients_fault(stage: Stage, kind: str, body: bytes) -> None:
    headers = SAME_SITE | {"Content-Type": kind}
    for path in ("/do/revoke", "/tasks/datatable"):
        async with stage.client.post(path, data=body, headers=headers) as response:
            assert response.status == 400, await response.text()


async def test_an_outcome_cannot_be_put_into_our_mouth(stage: Stage) -> None:
    for flash in ("bm9wZQ==.0000", "x", ""):
        page = await stage.get(f"/task/t-1?flash={flash}")
        assert not page.all("div", data_toast="")


async def test_nobody_is_sent_elsewhere_after_an_action(stage: Stage) -> None:
    fields = {"task_id": "t-1", "confirmed": "yes", "next": "//evil.example/"}
    async with stage.client.post("/do/revoke", data=fields, headers=SAME_SITE, allow_redirects=False) as response:
        assert response.headers["Location"].startswith("/?flash=")


async def test_a_worker_that_nobody_knows_is_refused_with_a_sentence(stage: Stage) -> None:
    fields = {"worker": "nobody@nowhere", "n": "1", "confirmed": "yes"}
    headers = SAME_SITE | {"X-Meadow-Fragment": "1"}
    async with stage.client.post("/do/pool-grow", data=fields, headers=headers) as response:
        toast = Document(await response.text()).one("div", data_toast="")
    assert "bad" in toast.attributes["class"]
    assert "Unknown worker 'nobody@nowhere'" in toast.text


async def test_a_form_that_makes_no_sense_is_refused_before_anything_is_done(stage: Stage) -> None:
    async with stage.client.post("/do/pool-grow", data={"worker": "w1@h", "n": "many"}, headers=SAME_SITE) as response:
        assert response.status == 400
        assert "whole number" in Document(await response.text()).words()
    async with stage.client.post("/do/nosuch", headers=SAME_SITE) as response:
        assert response.status == 404
    async with stage.client.post("/do/revoke", data={"task_id": "t-1"}, headers={"Sec-Fetch-Site": "cross-site"}) as r:
        assert r.status == 403


async def test_without_a_controller_the_page_says_so(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        fields = {"task_id": "t-1", "confirmed": "yes"}
        async with stage.client.post("/do/revoke", data=fields, headers=SAME_SITE) as response:
            assert response.status == 503
            assert "The controller does not run." in Document(await response.text()).words()
