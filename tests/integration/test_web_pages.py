"""Pages as a browser gets them: real facts on a real bus, the real api, and a look at the HTML."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meadow import subjects
from meadow.codec import encode
from meadow.events import CollectorReported, QueuesObserved, TaskFailed, TaskReceived, TaskStarted
from meadow.queries import Names, TaskList, TaskRow
from meadow.testing import eventually
from tests.integration.api_service import heartbeat, running_api, task_events
from tests.integration.web_stage import Document, MakeContext, Stage, hear, web_stage

PAGES = ("/", "/tasks", "/task/task-1", "/workers", "/worker/w1@h", "/queues", "/broker", "/pipeline", "/audit")
TABS = ("pool", "broker", "queues", "tasks", "limits", "config", "system", "other")


@pytest.fixture
async def stage(make_context: MakeContext) -> AsyncIterator[Stage]:
    async with web_stage(make_context) as made:
        await made.fill()
        yield made


async def test_every_page_has_a_title_its_place_in_the_side_bar_and_safe_headers(stage: Stage) -> None:
    for path in PAGES:
        async with stage.client.get(path) as response:
            page = Document(await response.text())
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/html; charset=UTF-8"
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "same-origin"
        assert page.one("title").text.endswith(" · Meadow"), path
        assert len(page.all("a", aria_current="page", title=page.all("a", aria_current="page")[0].text)) == 1
        assert all("style" not in element.attributes for element in page.elements), path
        assert all(script.attributes.get("src") for script in page.all("script")), path
        assert not page.all("style")


async def test_the_first_screen_says_what_is_wrong_and_links_to_it(stage: Stage) -> None:
    await stage.say(
        CollectorReported(seen=_now(), broker="redis://h/0", connected=True, since=_now() - 9), kind=subjects.COLLECTOR
    )
    page = await stage.get("/")
    assert page.one("h1").text.split("  ")[0].strip() == "Queue mail has 4,120 waiting and no consumer"
    assert page.one("main").attributes["data-mood"] == "bad"
    assert page.one("title").text == "✕ Overview · Meadow"
    assert page.all("a", href="/queues")[-1].text
    assert "favicon-bad" in page.one("link", rel="icon").attributes["href"]


async def test_tasks_are_listed_filtered_sorted_and_paged_by_the_address(stage: Stage) -> None:
    for number in range(3, 30):
        await stage.say(*task_events(number, name="proj.other" if number == 7 else "proj.add"))
    page = await stage.get("/tasks?limit=25&sort=received")
    assert _tasks(page) == [f"task-{number}" for number in range(25)]
    following = next(a.attributes["href"] for a in page.all("a", rel="next"))
    assert _tasks(await stage.get(following)) == [f"task-{number}" for number in range(25, 30)]
    assert _tasks(await stage.get("/tasks?name=proj.other")) == ["task-7"]
    assert _tasks(await stage.get("/tasks?search=uuid-that-is-not")) == []
    assert "No task matches" in (await stage.get("/tasks?state=RETRY")).words()


async def test_a_fault_in_the_search_is_shown_where_it_is(stage: Stage) -> None:
    page = await stage.get("/tasks?search=state:SUCCESS+(name:proj")
    assert page.one("mark").text
    assert "position" in page.one("div", id="search-error").text


async def test_a_search_field_gets_suggestions(stage: Stage) -> None:
    for field in ("search", "filter-search"):
        assert (await stage.get("/tasks")).one("input", id=field).attributes["data-suggest"] == "/tasks/suggest"
    hostile = TaskReceived(uuid="x", hostname="w1@h", timestamp=_now(), seen=_now(), clock=1, pid=1, name="p.<b>ö</b>")
    await stage.say(hostile)
    offers = {
        "na": "name:",
        "state:s": "state:SUCCESS",
        "name:p.": 'name:"p.<b>ö</b>"',
        "worker:": "worker:w1@h",
    }
    for written, expected in offers.items():
        async with stage.client.get("/tasks/suggest", params={"q": written}) as response:
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert expected in [one["text"] for one in (await response.json())["suggestions"]], written
    for strange in (
        {"q": "na state:", "position": "2"},
        {"q": "na", "position": "9" * 9},
        {"q": "na", "position": "x"},
    ):
        async with stage.client.get("/tasks/suggest", params=strange) as response:
            assert (await response.json())["suggestions"][0]["text"] == "name:", strange
    async with stage.client.get("/tasks/suggest", params={"q": "x" * 6000}) as response:
        assert response.status == 200


async def test_a_task_reads_like_a_story(stage: Stage) -> None:
    common: dict[str, Any] = {"uuid": "sad", "hostname": "w1@h", "seen": 10.0, "pid": 1}
    await stage.say(
        TaskReceived(**common, timestamp=100.0, clock=1, name="proj.mail", args="({'id': 7},)", root_id="sad"),
        TaskStarted(**common, timestamp=101.0, clock=2),
        TaskFailed(
            **common,
            timestamp=102.5,
            clock=3,
            exception="ValueError('no address')",
            traceback='Traceback\n  File "/srv/app.py", line 3, in f\n    boom()\nValueError: no address\n',
        ),
    )
    page = await stage.get("/task/sad")
    words = page.words()
    assert "Failed after 1.5 s on w1@h" in words
    assert "Waited in worker 1.0 s" in words
    assert "Ran 1.5 s" in words
    assert "/srv/app.py" in words
    assert page.one("title").text == "✕ proj.mail sad · Meadow"
    assert "Revoke and Terminate: it is over." in words  # a tool tip alone is not seen on a phone


async def test_a_list_of_failures_says_why_they_failed(stage: Stage) -> None:
    common: dict[str, Any] = {"hostname": "w1@h", "seen": _now(), "pid": 1, "uuid": "sad"}
    await stage.say(
        TaskReceived(**common, timestamp=100.0, clock=1, name="proj.mail", args="('a@b',)"),
        TaskFailed(**common, timestamp=102.5, clock=2, exception="ValueError('<b>no address</b>')"),
    )
    for path in ("/tasks", "/tasks?state=FAILURE"):
        page = await stage.get(path)
        assert page.one("td", class_="c-args c-exception").text.strip() == "ValueError('<b>no address</b>')"
    assert "Exception" in page.one("th", class_="c-args").text
    assert not (await stage.get("/tasks?state=SUCCESS")).all("td", class_="c-args c-exception")


async def test_where_no_column_would_say_why_tasks_failed_one_is_added(make_context: MakeContext) -> None:
    async with web_stage(make_context, tasks_columns=("uuid", "result")) as stage:
        common: dict[str, Any] = {"hostname": "w1@h", "seen": _now(), "pid": 1, "uuid": "sad"}
        await stage.say(TaskFailed(**common, timestamp=102.5, clock=2, exception="ValueError('no')"))
        assert [th.text.strip() for th in (await stage.get("/tasks?state=FAILURE")).all("th")] == [
            "UUID",
            "Result",
            "Exception",
        ]
        assert len((await stage.get("/tasks")).all("th")) == 2


async def test_many_workers_are_shown_page_by_page_and_found_by_name(stage: Stage) -> None:
    await stage.say(*(heartbeat(f"w{number:03}@farm") for number in range(205)), kind=subjects.WORKERS)
    page = await stage.get("/workers")
    assert len(_rows(page)) == 200
    assert "206 online" in page.words()
    rest = await stage.get(page.one("a", rel="next").attributes["href"])
    assert _rows(rest) == ["/worker/w1@h", *(f"/worker/w{number}@farm" for number in range(200, 205))]
    assert "201 to 206 of 206" in rest.words()
    assert rest.one("a", rel="prev").attributes["href"] == "/workers"
    found = await stage.get("/workers?search=W12&limit=4&start=4")
    assert _rows(found) == [f"/worker/w12{number}@farm" for number in range(4, 8)]
    assert found.one("a", rel="next").attributes["href"] == "/workers?start=8&search=W12&limit=4"
    assert "No worker matches." in (await stage.get("/workers?search=nobody")).words()
    assert len(_rows(await stage.get("/workers?limit=99999"))) == 200

    received = TaskReceived(uuid="long", hostname="w1@h", timestamp=_now(), seen=_now(), clock=1, pid=1, name="n" * 300)
    await stage.say(received)
    tasks = await stage.get("/tasks")
    options = [option for option in tasks.all("option") if option.attributes.get("value", "").endswith("@farm")]
    assert len(options) == 200
    assert "and 6 more: search for them" in tasks.html
    long = tasks.one("option", value="n" * 300)
    assert len(long.text) == 120


async def test_names_with_a_line_break_have_a_page_that_can_be_watched(stage: Stage) -> None:
    name = "two\nlines"
    received = TaskReceived(uuid=name, hostname="w\n1@h", timestamp=_now(), seen=_now(), clock=1, pid=1, name="p.a")
    await stage.say(received)
    await stage.say(heartbeat("w\n1@h"), kind=subjects.WORKERS)
    links = [link for path in ("/tasks", "/workers") for link in (await stage.get(path)).links() if "%0A" in link]
    pages = [link for link in links if link.startswith(("/task/", "/worker/"))]
    assert {link.split("/")[1] for link in pages} == {"task", "worker"}
    for link in pages:
        await stage.get(link)
        tab = await stage.tab(link)
        assert "lines" in (await hear(tab))["html"] or "worker" in link


async def test_where_the_broker_does_not_tell_consumers_are_counted_from_workers(stage: Stage) -> None:
    for path in ("/", "/queues"):
        page = await stage.get(path)
        counts = [span.text for span in page.all("span", title="From workers: the broker does not tell")]
        assert counts == ["0", "1"] if path == "/" else ["1", "0"], path


async def test_the_figures_of_the_first_screen_name_their_time(stage: Stage) -> None:
    labels = [dt.text for dt in (await stage.get("/?range=6h")).all("dt")]
    assert {"Succeeded, last 6 hours", "Failed, last 6 hours"} <= set(labels)


async def test_a_column_that_does_not_exist_is_the_scripts_fault(stage: Stage) -> None:
    query = {"draw": "1", "start": "0", "length": "2", "order[0][column]": "0", "columns[0][data]": "nosuch"}
    async with stage.client.get("/tasks/datatable", params=query) as response:
        assert response.status == 400
        assert "sorted by 'nosuch'" in await response.text()


async def test_every_tab_of_a_worker_can_be_opened(stage: Stage) -> None:
    for tab in TABS:
        page = await stage.get(f"/worker/w1@h?tab={tab}&limit=5")
        assert page.one("nav", class_="tabs")
        assert page.all("a", aria_current="page")[-1].text.strip() == tab.capitalize()


async def test_what_flowers_scripts_ask_among_the_pages_is_answered(stage: Stage) -> None:
    for path in ("/workers?json=1", "/?json=true&refresh=1"):
        async with stage.client.get(path) as response:
            assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
            worker = (await response.json())["data"][0]
        assert worker["hostname"] == "w1@h"
        assert worker["status"] is True
        assert {"worker-heartbeat", "task-received", "pid", "freq", "heartbeats", "clock", "loadavg"} <= set(worker)
    form = {
        "draw": "3",
        "start": "0",
        "length": "2",
        "search[value]": "name:proj.add",
        "order[0][column]": "6",
        "order[0][dir]": "asc",
        "columns[6][data]": "received",
    }
    async with stage.client.post("/tasks/datatable", data=form) as response:
        answer = await response.json()
    assert (answer["draw"], answer["recordsTotal"], answer["recordsFiltered"]) == (3, 3, 3)
    assert [task["uuid"] for task in answer["data"]] == ["task-0", "task-1"]
    assert len(answer["data"][0]) == 31
    async with stage.client.get("/tasks/datatable", params={**form, "search[value]": "ab"}) as response:
        answer = await response.json()
    assert answer["searchError"] == "Substring search terms must contain at least 3 characters at position 0."
    assert (answer["data"], answer["recordsFiltered"]) == ([], 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/workers?json=perhaps", "Invalid argument 'perhaps' of type 'bool'"),
        ("/worker/w1@h?limit=x", "Invalid argument 'x' of type 'int'"),
        ("/tasks/datatable?start=0", "Missing argument draw"),
        ("/tasks/datatable?draw=1&start=x", "Invalid argument 'x' of type 'int'"),
        ("/tasks/datatable?draw=1&start=0&length=1", "Missing argument order[0][column]"),
    ],
)
async def test_wrong_arguments_are_refused_in_flowers_words(stage: Stage, path: str, body: str) -> None:
    async with stage.client.get(path) as response:
        assert (response.status, await response.text()) == (400, body)
        assert response.headers["Content-Type"] == "text/plain"


async def test_what_is_not_there_is_a_page_that_says_so(stage: Stage) -> None:
    for path, words in (
        ("/task/nobody-knows-it", "Unknown task 'nobody-knows-it'"),
        ("/worker/nobody@nowhere", "Unknown worker 'nobody@nowhere'"),
        ("/no/such/page", "There is no such page."),
        ("/login", "no sign-in"),
        ("/login/", "no sign-in"),
        ("/static/nothing.js", "There is no such file."),
        ("/static/../service.py", ""),
    ):
        page = await stage.get(path, status=404)
        assert words in page.words()
    assert "logged out" in (await stage.get("/logout")).words()
    async with stage.client.post("/no/such/page") as response:
        assert (response.status, response.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")


async def test_static_files_are_cached_for_ever_below_their_version_only(stage: Stage) -> None:
    page = await stage.get("/")
    style = next(link for link in page.links() if link.endswith("/meadow.css"))
    async with stage.client.get(style) as response:
        assert "immutable" in response.headers["Cache-Control"]
    async with stage.client.get("/static/meadow.css") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
    async with stage.client.get("/static/meadow.css", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    async with stage.client.get("/static/favicon.ico") as response:
        assert response.headers["Content-Type"] == "image/vnd.microsoft.icon"
        assert (await response.read())[:4] == b"\0\0\1\0"
    for link in page.links():
        if "/static/" in link:
            async with stage.client.get(link.partition("#")[0]) as response:
                assert response.status == 200, link


async def test_below_a_prefix_every_link_and_file_is_below_it(make_context: MakeContext) -> None:
    async with web_stage(make_context, url_prefix="flower/") as stage:
        await stage.fill()
        for path in PAGES:
            page = await stage.get(path)
            links = [link for link in page.links() if not link.startswith(("#", "https://docs.celeryq.dev/"))]
            assert links
            assert all(link.startswith("/flower/") for link in links), path
            assert page.one("body").attributes["data-live"] == "/flower/live"
            assert page.one("body").attributes["data-view"].startswith("/flower/")
        async with stage.client.get("/tasks") as response:
            assert response.status == 404


async def test_without_the_api_a_page_says_what_is_missing_and_is_whole_again_with_it(
    make_context: MakeContext,
) -> None:
    async with web_stage(make_context, api=False) as stage:
        page = await stage.get("/tasks", status=503)
        assert "The api does not run." in page.words()
        assert page.one("nav", class_="side")
        async with running_api(make_context()):

            async def whole() -> bool:
                async with stage.client.get("/tasks") as response:
                    return response.status == 200

            await eventually(whole)


async def test_a_broker_that_is_away_is_told_on_every_page(stage: Stage) -> None:
    fact = CollectorReported(
        seen=_now(), broker="redis://h/0", connected=False, since=_now() - 60, error="Connection refused"
    )
    await stage.say(fact, kind=subjects.COLLECTOR)
    for path in PAGES:
        assert "The broker cannot be reached: redis://h/0" in (await stage.get(path)).words(), path


async def test_queues_that_cannot_be_read_are_not_said_to_be_none(stage: Stage) -> None:
    await stage.say(QueuesObserved(seen=_now(), error="Error 111. Refused."), kind=subjects.QUEUES)
    words = (await stage.get("/queues")).words()
    assert "The queue depths cannot be read: Error 111. Refused. " in words
    assert "Refused.." not in words
    assert "No queue has been seen" not in words + (await stage.get("/")).words()


async def test_a_search_that_ran_out_of_time_says_so(make_context: MakeContext) -> None:
    async with web_stage(make_context, api=False) as stage:
        found = [TaskRow(uuid="one", state="SUCCESS", timestamp=_now())]
        answers = iter((TaskList(partial=True, next="further"), TaskList(partial=True, next="further", rows=found)))

        async def answer(data: bytes) -> bytes:
            return encode(next(answers))

        async def names(data: bytes) -> bytes:
            return encode(Names())

        await stage.bus.answer({subjects.query("tasks"): answer, subjects.query("names"): names}, group="test")
        nothing = (await stage.get("/tasks?search=rare")).words()
        assert "Nothing was found in the time that a search has." in nothing
        assert "No task matches" not in nothing
        something = await stage.get("/tasks?search=rare")
        assert "Time was up before every task was looked at" in something.words()
        assert something.one("a", rel="next").attributes["href"] == "/tasks?search=rare&cursor=further"


async def test_in_read_only_mode_controls_are_visible_but_inert_and_say_why(make_context: MakeContext) -> None:
    async with web_stage(make_context, read_only=True) as stage:
        await stage.fill()
        for path in ("/worker/w1@h", "/worker/w1@h?tab=queues", "/worker/w1@h?tab=limits", "/task/task-1"):
            page = await stage.get(path)
            buttons = [b for b in page.all("button") if "button" in b.attributes.get("class", "")]
            assert buttons
            assert all("disabled" in button.attributes for button in buttons), path
            assert "Read only mode is enabled" in page.words()
        async with stage.client.post("/do/shutdown", data={"worker": "w1@h"}) as response:
            assert response.status == 403


async def test_the_columns_of_the_task_table_can_be_chosen(make_context: MakeContext) -> None:
    async with web_stage(make_context, tasks_columns=("uuid", "result", "nosuch", "retries")) as stage:
        await stage.fill()
        page = await stage.get("/tasks")
        assert [th.text.strip() for th in page.all("th")] == ["UUID", "Result", "Retries"]


async def test_an_empty_meadow_says_what_would_fill_it(make_context: MakeContext) -> None:
    async with web_stage(make_context) as stage:
        assert "No events yet" in (await stage.get("/")).words()
        assert "-E" in (await stage.get("/")).words()
        assert "No task has been seen yet" in (await stage.get("/tasks")).words()
        assert "No worker has been seen" in (await stage.get("/workers")).words()
        assert "No queue has been seen" in (await stage.get("/queues")).words()
        assert "Nobody has done anything yet" in (await stage.get("/audit")).words()


def _tasks(page: Document) -> list[str]:
    return [
        row.attributes["data-href"].removeprefix("/task/") for row in page.all("tr") if "data-href" in row.attributes
    ]


def _rows(page: Document) -> list[str]:
    return [row.attributes["data-href"] for row in page.all("tr") if "data-href" in row.attributes]


def _now() -> float:
    return time.time()
