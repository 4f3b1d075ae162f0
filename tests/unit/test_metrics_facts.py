"""The facts as metrics reads them are those of the bus, with fewer fields: nothing is missing, nothing is different."""

from typing import Any, get_args

import pytest
from msgspec.structs import fields

from meadow import events
from meadow_metrics import facts


def by_tag(union: Any) -> dict[str, Any]:
    return {str(kind.__struct_config__.tag): kind for kind in get_args(union)}


OURS, THEIRS = by_tag(facts.AnyFact), by_tag(events.AnyFact)


def test_metrics_reads_every_fact() -> None:
    """One that it did not know would make it skip the whole batch."""
    assert set(OURS) == set(THEIRS)


@pytest.mark.parametrize("tag", sorted(OURS))
def test_a_fact_has_only_fields_of_the_fact_on_the_bus(tag: str) -> None:
    known = {field.name: field for field in fields(THEIRS[tag])}
    for field in fields(OURS[tag]):
        assert field.name in known
        theirs = known[field.name]
        assert (field.default, field.default_factory) == (theirs.default, theirs.default_factory)
        if field.name != "queues":  # whose members have fewer fields, too
            assert field.type == theirs.type
