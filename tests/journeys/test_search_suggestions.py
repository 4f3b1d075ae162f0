"""Writing a search in a real browser: what is offered, by keyboard and by pointer, and what tasks smuggle into it."""

import json

from playwright.async_api import Browser, Page, Route, expect

from meadow.testing import eventually
from tests.journeys.stage import Stage

HOSTILE = 'shop.<img src=x onerror="window.stung=1">\U0001f33c'


async def offers(page: Page) -> list[str]:
    return await page.locator("#suggestions [role=option] > .mono").all_inner_texts()


async def test_a_search_is_written_with_suggestions(stage: Stage, browser: Browser) -> None:
    meadow = await stage.start_meadow("celery", "-A", "shop", "flower", "--port=0", "--address=127.0.0.1")
    stage.start_worker("w1@shop")
    uuid = await stage.send("shop.add", 1, 2)
    await eventually(lambda: meadow.task_is(uuid, "SUCCESS"), timeout=30)
    page = await browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(f"{meadow.url}tasks")
    await by_keyboard(page, meadow.url)
    await by_pointer(page)
    await closing(page)
    await what_is_offered_is_text(page)
    await without_an_answer(page)
    assert problems == []


async def by_keyboard(page: Page, url: str) -> None:
    """A field, its value, and the search itself, without touching the mouse."""
    field = page.get_by_role("combobox", name="Search tasks")
    await page.keyboard.press("/")
    await expect(field).to_be_focused()
    await page.keyboard.type("sta")
    await expect(field).to_have_attribute("aria-expanded", "true")
    assert await offers(page) == ["state:", "started:"]
    assert await field.get_attribute("aria-activedescendant") is None
    await page.keyboard.press("ArrowUp")
    await expect(page.locator("#suggestions").get_by_role("option", selected=True)).to_contain_text("started:")
    await page.keyboard.press("ArrowDown")
    chosen = page.locator("#suggestions").get_by_role("option", selected=True)
    await expect(chosen).to_contain_text("state:")
    assert await field.get_attribute("aria-activedescendant") == await chosen.get_attribute("id")
    await page.keyboard.press("Tab")
    await expect(field).to_have_value("state:")
    await expect(page.locator("#suggestions")).to_contain_text("state:SUCCESS")
    await page.keyboard.type("suc")
    await page.keyboard.press("ArrowDown")  # at once: what is on offer still is for less than was typed
    await expect(chosen).to_contain_text("state:SUCCESS")
    await page.keyboard.press("Enter")
    await expect(field).to_have_value("state:SUCCESS ")
    assert page.url == f"{url}tasks"
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/tasks?search=state*")
    await expect(page.locator("main tbody tr")).to_contain_text("shop.add")


async def by_pointer(page: Page) -> None:
    """A click puts the words where the cursor was, in the middle of what is written, and the focus stays."""
    field = page.locator("#filter-search")
    await field.fill("\U0001f33c worker: name:shop.add")
    await field.evaluate("field => field.setSelectionRange(10, 10)")  # the flower is one character, but two units
    await page.keyboard.press("ArrowDown")
    await page.locator("#suggestions").get_by_role("option", name="worker:w1@shop").click()
    await expect(field).to_have_value("\U0001f33c worker:w1@shop name:shop.add")
    await expect(field).to_be_focused()
    assert await field.evaluate("field => field.selectionStart") == len("-- worker:w1@shop")


async def closing(page: Page) -> None:
    """Escape closes the list and keeps what is written; Tab without a choice moves on."""
    field, listed = page.locator("#filter-search"), page.locator("#suggestions")
    await field.fill("")
    await page.keyboard.type("na")
    await expect(listed).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(listed).to_be_hidden()
    await expect(field).to_have_value("na")
    await page.keyboard.type("m")
    await expect(listed).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(listed).to_be_hidden()
    await expect(field).not_to_be_focused()
    await expect(field).to_have_value("nam")
    assert await field.get_attribute("role") is None


async def what_is_offered_is_text(page: Page) -> None:
    """Whatever the names of tasks hold, nothing of it becomes a part of the page."""
    suggestion = {"text": f"name:{HOSTILE}", "kind": "value", "help": HOSTILE}

    async def answer(route: Route) -> None:
        await route.fulfill(
            content_type="application/json", body=json.dumps({"start": 0, "end": 3, "suggestions": [suggestion]})
        )

    await page.route("**/tasks/suggest*", answer)
    field = page.locator("#filter-search")
    await field.fill("sho")
    await expect(page.locator("#suggestions").get_by_role("option")).to_contain_text(HOSTILE)
    assert await page.locator("#suggestions img").count() == 0
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(field).to_have_value(f"name:{HOSTILE} ")
    assert await page.evaluate("window.stung") is None
    await page.unroute("**/tasks/suggest*")


async def without_an_answer(page: Page) -> None:
    """A search can be written and sent although nobody offers anything."""
    await page.route("**/tasks/suggest*", lambda route: route.abort())
    field = page.locator("#filter-search")
    await field.fill("")
    async with page.expect_request("**/tasks/suggest*"):
        await field.press_sequentially("shop.add")
    await expect(page.locator("#suggestions")).to_be_hidden()
    await field.press("Enter")
    await page.wait_for_url("**/tasks?search=shop.add")
    await expect(page.locator("main tbody tr")).to_contain_text("shop.add")
