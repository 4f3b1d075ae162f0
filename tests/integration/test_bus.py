"""The bus on a real NATS: streams, reading from a position, asking and answering."""

import asyncio

import pytest
from nats.js.errors import APIError

from meadow.bus import Bus, StreamLimits, StreamMessage
from meadow.bus.answering import MOST_UNDER_WAY, MOST_WAITING
from meadow.errors import AnswerTimedOut, BusError, NobodyAnswers
from meadow.subjects import ALL_EVENTS, AUDIT_STREAM, EVENTS_STREAM, audit, events, query
from meadow.testing import eventually, running_nats
from tests.servers import operator

TASKS = events("c", "tasks")


async def read_until(bus: Bus, count: int, after: int | None) -> list[StreamMessage]:
    found: list[StreamMessage] = []
    async with asyncio.timeout(10):
        async for messages in bus.read(EVENTS_STREAM, after=after, subject=ALL_EVENTS):
            found.extend(messages)
            if len(found) >= count:
                return found
    raise AssertionError("the stream ended")


async def test_a_stream_is_read_in_order_behind_a_position(bus: Bus) -> None:
    for number in range(150):
        await bus.append(TASKS, str(number).encode())
    found = await read_until(bus, 100, after=50)
    assert [message.data for message in found] == [str(n).encode() for n in range(50, 150)]
    assert [message.sequence for message in found] == list(range(51, 151))


async def test_the_same_message_id_is_stored_once(bus: Bus) -> None:
    first = await bus.append(TASKS, b"x", message_id="batch-1")
    again = await bus.append(TASKS, b"x", message_id="batch-1")
    assert first == again == (await bus.stream_state(EVENTS_STREAM)).last


async def test_reading_from_now_on_leaves_out_what_was_before(bus: Bus) -> None:
    await bus.append(TASKS, b"old")
    reading = asyncio.create_task(read_until(bus, 1, after=None))
    numbers = iter(range(1000))

    async def say() -> bool:
        await bus.append(TASKS, f"new {next(numbers)}".encode())
        return reading.done()

    await eventually(say)
    assert all(message.data != b"old" for message in await reading)


async def test_declaring_the_streams_again_changes_the_limits_and_keeps_what_they_hold(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    await bus.append(TASKS, b"kept")
    before = await bus.stream_state(EVENTS_STREAM)
    with caplog.at_level("WARNING"):
        await bus.declare_streams(StreamLimits(max_age=60.0, max_bytes=10_000_000))
        assert "max_age 60.0, before 604800.0" in caplog.text
        caplog.clear()
        await bus.declare_streams(StreamLimits(max_age=60.0, max_bytes=10_000_000))
        assert not caplog.text
    assert await bus.stream_state(EVENTS_STREAM) == before
    async with operator(bus) as jetstream:
        config = (await jetstream.stream_info(EVENTS_STREAM)).config
        assert (config.max_age, config.max_bytes) == (60.0, 10_000_000)


async def test_what_an_operator_has_set_besides_the_limits_stays(bus: Bus) -> None:
    async with operator(bus) as jetstream:
        for stream in (EVENTS_STREAM, AUDIT_STREAM):
            config = (await jetstream.stream_info(stream)).config
            await jetstream.update_stream(config.evolve(description="ours", max_msg_size=7_000_000))
        await bus.declare_streams(StreamLimits(max_age=0.0))
        for stream in (EVENTS_STREAM, AUDIT_STREAM):
            config = (await jetstream.stream_info(stream)).config
            assert (config.description, config.max_msg_size, config.max_age) == ("ours", 7_000_000, 0.0)


async def test_a_stream_of_somebody_else_on_the_same_subjects_is_told() -> None:
    async with running_nats() as server:
        client = await Bus.connect(server.url, name="test")
        async with operator(client) as jetstream:
            await jetstream.add_stream(name="THEIRS", subjects=["meadow.events.>"])
        with pytest.raises(BusError, match=r"MEADOW_EVENTS could not be declared: .*overlap"):
            await client.declare_streams(StreamLimits())
        await client.close()


async def test_an_audit_record_cannot_be_taken_back(bus: Bus) -> None:
    sequence = await bus.append(audit("c"), b"record")
    async with operator(bus) as jetstream:
        for attempt in (jetstream.delete_msg(AUDIT_STREAM, sequence), jetstream.purge_stream(AUDIT_STREAM)):
            with pytest.raises(APIError, match=r"not permitted|denied|forbid|err_code=101"):
                await attempt
    assert (await bus.stream_state(AUDIT_STREAM)).last == sequence


async def test_nobody_and_too_late_are_told_apart(bus: Bus) -> None:
    release = asyncio.Event()

    async def slow(data: bytes) -> bytes:
        await release.wait()
        return data

    with pytest.raises(NobodyAnswers):
        await bus.ask(query("nothing"), b"")
    await bus.answer({query("slow"): slow}, group="api")
    with pytest.raises(AnswerTimedOut):
        await bus.ask(query("slow"), b"", timeout=0.2)
    release.set()


async def test_a_slow_answer_does_not_hold_up_the_others(bus: Bus) -> None:
    release = asyncio.Event()

    async def answer(data: bytes) -> bytes:
        if data == b"slow":
            await release.wait()
        return b"answer to " + data

    await bus.answer({query("mixed"): answer}, group="api")
    slow = asyncio.create_task(bus.ask(query("mixed"), b"slow"))
    assert await bus.ask(query("mixed"), b"fast") == b"answer to fast"
    assert not slow.done()
    release.set()
    assert await slow == b"answer to slow"


async def test_all_services_get_the_key_of_whoever_was_first(bus: Bus) -> None:
    keys = await asyncio.gather(*(bus.shared_key("claims", bytes([n]) * 32) for n in range(5)))
    assert len(set(keys)) == 1


async def test_reading_goes_on_behind_a_restart_of_nats(bus: Bus) -> None:
    """The consumer of a reader lives in NATS' memory and is gone after a restart."""
    async with running_nats() as server:
        client = await Bus.connect(server.url, name="reader")
        await client.declare_streams(StreamLimits())
        await client.append(TASKS, b"before")
        seen: list[bytes] = []

        async def read() -> None:
            async for messages in client.read(EVENTS_STREAM, after=0, subject=ALL_EVENTS):
                seen.extend(message.data for message in messages)

        reading = asyncio.create_task(read())
        await eventually(lambda: seen == [b"before"])
        await server.stop()
        server._stopping = False
        await server.start()
        await eventually(lambda: client.connected, timeout=15)
        await client.append(TASKS, b"after")
        await eventually(lambda: seen == [b"before", b"after"], timeout=20)
        reading.cancel()
        await client.close()


async def test_a_stream_that_is_not_there_is_told_once_and_when_it_is_there_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "meadow.bus")
    async with running_nats() as server:
        client = await Bus.connect(server.url, name="reader")
        reading = client.read(EVENTS_STREAM, after=0, subject=ALL_EVENTS)
        assert [await anext(reading) for _ in range(3)] == [[], [], []]
        other = await Bus.connect(server.url, name="other")
        await other.declare_streams(StreamLimits())
        await other.append(TASKS, b"first")
        async with asyncio.timeout(10):
            while not (found := await anext(reading)):
                pass
        assert [message.data for message in found] == [b"first"]
        await reading.aclose()
        await other.close()
        await client.close()
    said = [record.getMessage() for record in caplog.records if "Reading MEADOW_EVENTS" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("Reading MEADOW_EVENTS has to wait: ")
    assert said[1] == "Reading MEADOW_EVENTS goes on."


async def test_a_question_whose_asker_gave_up_is_not_answered_any_more(bus: Bus) -> None:
    release, heard = asyncio.Event(), []
    name = f"answer {query('busy')}"

    async def answer(data: bytes) -> bytes:
        heard.append(data)
        await release.wait()
        return data

    await bus.answer({query("busy"): answer}, group="api")
    before = [asyncio.create_task(bus.ask(query("busy"), b"before")) for _ in range(MOST_UNDER_WAY)]
    await eventually(lambda: len(heard) == MOST_UNDER_WAY)
    with pytest.raises(AnswerTimedOut):
        await bus.ask(query("busy"), b"in vain", timeout=0.2)
    # Its time began a little later on this side than on the asker's.
    await eventually(lambda: [task.get_name() for task in asyncio.all_tasks()].count(name) == MOST_UNDER_WAY)
    patient = asyncio.create_task(bus.ask(query("busy"), b"patient"))
    release.set()
    assert await patient == b"patient"
    await asyncio.gather(*before)
    assert b"in vain" not in heard


async def test_who_has_stopped_answering_is_not_asked_any_more(bus: Bus) -> None:
    async def answer(data: bytes) -> bytes:
        return data

    first, _ = [await bus.answer({query("which"): answer}, group="api") for _ in range(2)]
    await first.stop()
    assert {await bus.ask(query("which"), bytes([n])) for n in range(5)} == {bytes([n]) for n in range(5)}
    only = await bus.answer({query("alone"): answer}, group="api")
    await only.stop()
    with pytest.raises(NobodyAnswers):
        await bus.ask(query("alone"), b"")


async def test_too_many_questions_are_left_unanswered_and_counted(bus: Bus) -> None:
    release = asyncio.Event()

    async def answer(data: bytes) -> bytes:
        await release.wait()
        return data

    answering = await bus.answer({query("flood"): answer}, group="api")
    asking = [asyncio.create_task(bus.ask(query("flood"), b"", timeout=60.0)) for _ in range(MOST_WAITING + 5)]
    await eventually(lambda: answering.refused == 5)
    release.set()
    done, _ = await asyncio.wait(asking, timeout=5.0)
    assert len(done) == MOST_WAITING
    for task in asking:
        task.cancel()
