"""Buttons, pressed for real: a form, a confirmation, a controller on a real broker, the audit page."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meadow.events import TaskReceived
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
    assert "Revoked 't-1'" in done.one("div", data_toast="").text
    assert done.one("body").attributes["data-view"] == "/task/t-1"

    async def audited() -> bool:
        words = (await stage.get("/audit?target=t-1")).words()
        return all(part in words for part in ("anonymous", "127.0.0.1", "revoke", "Done", "no longer wanted"))

    await eventually(audited)


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
