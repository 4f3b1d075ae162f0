"""/api/v1/workflows: the tree of one root, also where parts of it are not known."""

from meadow_api.store import workflow_reads
from tests.integration.api_service import MakeContext
from tests.integration.v1_store import NOW, family, get, task, telling


async def test_a_workflow_is_a_tree_from_whichever_task_it_is_asked(make_context: MakeContext) -> None:
    async with telling(make_context, *family(), *task(7)) as (_, client):
        for uuid in ("root", "grandchild", "orphan"):
            status, workflow = await get(client, f"workflows/{uuid}")
            assert (status, workflow["root"], workflow["complete"]) == (200, "root", True)
            assert [(t["uuid"], t["depth"], t["known"]) for t in workflow["tasks"]] == [
                ("root", 0, True),
                ("left", 1, True),
                ("grandchild", 2, True),
                ("right", 1, True),
                ("stranger", 0, False),
                ("orphan", 1, True),
            ]
    assert workflow["states"] == {"SUCCESS": 4, "REVOKED": 1}
    assert (workflow["began"], workflow["ended"]) == (NOW + 100, NOW + 500)
    right = next(t for t in workflow["tasks"] if t["uuid"] == "right")
    assert (right["state"], right["parent"], right["ended"]) == ("REVOKED", "root", NOW + 500)


async def test_a_task_alone_is_a_workflow_of_one_and_a_stranger_is_a_404(make_context: MakeContext) -> None:
    async with telling(make_context, *task(7)) as (_, client):
        _, workflow = await get(client, "workflows/task-7")
        status, problem = await get(client, "workflows/nobody")
    assert [t["uuid"] for t in workflow["tasks"]] == ["task-7"]
    assert (status, problem["error"]) == (404, "not-found")


async def test_tasks_that_claim_to_be_each_others_parents_are_shown_once(make_context: MakeContext) -> None:
    facts = [
        *task(1, uuid="a", root_id="a", parent_id="a"),
        *task(2, uuid="b", root_id="a", parent_id="c"),
        *task(3, uuid="c", root_id="a", parent_id="b"),
    ]
    async with telling(make_context, *facts) as (_, client):
        _, workflow = await get(client, "workflows/b")
    assert sorted(t["uuid"] for t in workflow["tasks"]) == ["a", "b", "c"]


async def test_a_workflow_that_is_too_large_says_so(make_context: MakeContext) -> None:
    count = workflow_reads.MOST + 5
    facts = [fact for n in range(count) for fact in task(n, root_id="task-0", parent_id=f"task-{n - 1}" if n else None)]
    async with telling(make_context, *facts) as (_, client):
        _, workflow = await get(client, f"workflows/task-{count - 1}")
    assert workflow["complete"] is False
    assert max(t["depth"] for t in workflow["tasks"]) == workflow_reads.MOST - 1
    assert f"task-{count - 1}" in [t["uuid"] for t in workflow["tasks"]]
