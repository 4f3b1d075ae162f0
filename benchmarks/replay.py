"""The same traffic again and again, each time with new task ids and the present time: cheap enough that the generator
leaves the processor to what is measured.

Messages are encoded once, with marks where ids and times stand; before they are sent the marks are replaced in the
bytes. In base64 that works because each mark begins at a multiple of three bytes.
"""

import base64
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from benchmarks.workload import Event, Message, Workload, worker_message

ID = "zzzzzz"
TIME = "9999999999.9999"
MARK = re.compile(rf"{ID}|{TIME}")
TASKS = 8000
"""Tasks of one round."""

Encode = Callable[[Message], bytes]


@dataclass
class Chunk:
    """Bytes to write at once. `beats` are the heartbeats among them, which are made anew each time."""

    data: bytes = b""
    events: int = 0
    about_tasks: int = 0
    beats: list[Event] = field(default_factory=list)


class Replay:
    """Endless chunks of at most about `size` events. `first` is the number of the first round."""

    def __init__(self, encode: Encode, size: int, *, first: int = 0, encoded_in_base64: bool = True) -> None:
        self._encode = encode
        self._first = first
        self._in_base64 = encoded_in_base64
        self._accepted: dict[str, int] = {}
        self._chunks = list(self._prepare(size))

    def chunks(self) -> Iterator[Chunk]:
        """The traffic, for ever."""
        number = 0
        while True:
            for chunk in self._chunks:
                yield self._present(chunk, number)
            number += 1

    def _prepare(self, size: int) -> Iterator[Chunk]:
        workload = Workload(task_id=ID, timestamp=TIME)
        chunk, data = Chunk(), list[bytes]()
        for message in workload.messages(TASKS):
            if message.beat is None:
                data.append(self._encode(replace(message, body=aligned(message.body))))
            elif message.beat["type"] == "worker-heartbeat":
                chunk.beats.append(message.beat)
            else:
                continue  # workers come online once
            chunk.events += message.events
            chunk.about_tasks += message.events if message.about_tasks else 0
            if chunk.events >= size:
                yield replace(chunk, data=b"".join(data))
                chunk, data = Chunk(), []
        if chunk.events:
            yield replace(chunk, data=b"".join(data))
        self._accepted = workload.accepted

    def _present(self, chunk: Chunk, number: int) -> Chunk:
        """The chunk as of now, in that round."""
        now = time.time()
        data = chunk.data.replace(self._mark(ID), self._mark(f"{self._first + number:06x}"))
        data = data.replace(self._mark(TIME), self._mark(f"{now:.4f}"))
        beats = (self._beat(beat, number, now) for beat in chunk.beats)
        return replace(chunk, data=data + b"".join(beats))

    def _beat(self, beat: Event, number: int, now: float) -> bytes:
        processed = number * self._accepted[beat["hostname"]] + beat["processed"]
        return self._encode(worker_message(beat | {"processed": processed, "timestamp": now}))

    def _mark(self, text: str) -> bytes:
        return base64.b64encode(text.encode()) if self._in_base64 else text.encode()


def aligned(body: bytes) -> bytes:
    """The JSON with spaces in front of the values that hold marks, so that each mark begins at a multiple of three."""
    text = body.decode().replace(f'"{TIME}"', TIME)
    pieces: list[str] = []
    done = length = 0
    for mark in MARK.finditer(text):
        start = mark.start() - (text[mark.start() - 1] == '"')
        pieces.append(text[done:start])
        length += start - done
        pad = -(length + mark.start() - start) % 3
        pieces.append(" " * pad)
        length += pad
        done = start
    return "".join((*pieces, text[done:])).encode()
