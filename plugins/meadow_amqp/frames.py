"""AMQP 0-9-1 frames to messages, for one consumer. Pure.

A frame is type (1 byte), channel (2), size (4), payload, 0xCE; a message is a `basic.deliver` method, a content header
and bodies (AMQP 0-9-1 specification, 2.3.5 and 4.2.6). py-amqp does the same for any number of channels, in five times
the time; what is no message is handed on to it.
"""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from meadow.errors import BrokerUnavailable

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE
DELIVER = b"\x00\x3c\x00\x3c"
CONTENT_TYPE = 0x8000
OVERHEAD = 8
"""Bytes of a frame besides its payload."""

_frame = Struct(">BHI")
_number = Struct(">Q")
_size_and_flags = Struct(">QH")


class Message(NamedTuple):
    """One message as it came. `number` counts the messages of the channel, from 1."""

    number: int
    redelivered: bool
    content_type: str | None
    body: bytes


class Frames:
    """Takes bytes as they arrive. `other` is called with each frame that belongs to no message."""

    def __init__(self, channel: int, largest: int, other: Callable[[tuple[int, int, bytes]], object]) -> None:
        self._channel = channel
        self._largest = largest
        self._other = other
        self._rest = b""
        self._number = 0
        self._redelivered = False
        self._content_type: str | None = None
        self._missing = 0
        self._bodies: list[bytes] = []
        self._expected = METHOD
        self.count = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes; raises `BrokerUnavailable` for what is not AMQP."""
        data = self._rest + data
        messages: list[Message] = []
        position, end = 0, len(data)
        while end - position >= OVERHEAD:
            kind, channel, size = _frame.unpack_from(data, position)
            if size > self._largest:
                raise BrokerUnavailable(f"The broker sent a frame of {size} bytes, which is not AMQP.")
            stop = position + 7 + size
            if stop >= end:
                break
            if data[stop] != END:
                raise BrokerUnavailable("The broker sent a frame without an end, which is not AMQP.")
            payload = data[position + 7 : stop]
            position = stop + 1
            self.count += 1
            if channel == self._channel and kind == self._expected and self._advance(kind, payload):
                if self._missing == 0 and self._expected == METHOD:
                    messages.append(self._message())
            else:
                self._hand_on(kind, channel, payload)
        self._rest = data[position:]
        return messages

    def _advance(self, kind: int, payload: bytes) -> bool:
        """Take a frame of a message; a method that is no `basic.deliver` is none."""
        if kind == METHOD:
            if payload[:4] != DELIVER:
                return False
            tag = 5 + payload[4]
            (self._number,) = _number.unpack_from(payload, tag)
            self._redelivered = bool(payload[tag + 8] & 1)
            self._expected, self._missing = HEADER, -1
        elif kind == HEADER:
            self._missing, flags = _size_and_flags.unpack_from(payload, 4)
            self._content_type = None
            if flags & CONTENT_TYPE:
                self._content_type = payload[15 : 15 + payload[14]].decode("utf-8", "replace")
            self._expected = BODY if self._missing else METHOD
        else:
            self._bodies.append(payload)
            self._missing -= len(payload)
            if self._missing < 0:
                raise BrokerUnavailable("The broker sent more of a message than it had announced.")
            self._expected = BODY if self._missing else METHOD
        return True

    def _message(self) -> Message:
        bodies = self._bodies
        body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
        bodies.clear()
        return Message(self._number, self._redelivered, self._content_type, body)

    def _hand_on(self, kind: int, channel: int, payload: bytes) -> None:
        if channel == self._channel and self._expected != METHOD:
            raise BrokerUnavailable("The broker sent the frames of a message in a wrong order.")
        self._other((kind, channel, payload))
