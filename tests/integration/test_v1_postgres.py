"""/api/v1 answers from PostgreSQL as it does from SQLite."""

import time

import pytest

from meadow_api.v1 import endpoint
from tests.integration.api_service import MakeContext
from tests.integration.v1_store import failed, family, get, task, telling


async def test_every_resource_is_answered_from_postgresql(
    make_context: MakeContext, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SLICE", 1e12)  # so that no slice of time ends in between
    now = float(int(time.time()))
    facts = [*family(), *(f for n in range(30) for f in task(-n, at=now)), *failed(1, 42, at=now - 5)]
    async with telling(make_context, *facts, store=postgres) as (_, client):
        _, first = await get(client, "tasks", limit=20, sort="name")
        _, second = await get(client, "tasks", limit=20, sort="name", cursor=first["next"])
        _, detail = await get(client, "tasks/task--3")
        _, failures = await get(client, "failures")
        _, workflow = await get(client, "workflows/left")
        _, stats = await get(client, "stats", name="proj.add")
        _, completed = await get(client, "search/suggest", q="name:proj.a")
        async with client.get("/api/v1/tasks") as response:
            etag = response.headers["ETag"]
        async with client.get("/api/v1/tasks", headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        async with client.get("/api/v1/export/tasks") as response:
            exported = (await response.text()).splitlines()
    assert len({row["uuid"] for row in (*first["tasks"], *second["tasks"])}) == 36
    assert [moment["what"] for moment in detail["timeline"]] == ["sent", "received", "started", "succeeded"]
    assert [(group["exception"], group["count"]) for group in failures["groups"]] == [("Declined", 1)]
    assert [t["uuid"] for t in workflow["tasks"]][:3] == ["root", "left", "grandchild"]
    assert stats["total"]["events"]["succeeded"] >= 1
    assert completed["suggestions"][0]["text"] == "name:proj.add"
    assert len(exported) == 36
