"""What an API of Meadow answers when it cannot do what was asked: one shape for every status."""

from msgspec import Struct


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`error` is a word for programs, `message` a sentence for people, `hint` what to do.

    `position` counts characters from 0 in the text at fault, where one is at fault.
    """

    error: str
    message: str
    hint: str = ""
    position: int | None = None


WORDS = {
    400: "bad-request",
    401: "not-signed-in",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    500: "failed",
    503: "unavailable",
}


def problem_of(status: int, message: str) -> Problem:
    """A problem from what a gate or a handler said in plain text, which may be nothing."""
    return Problem(
        error=WORDS.get(status, f"status-{status}"), message=message or _SENTENCES.get(status, "That failed.")
    )


_SENTENCES = {
    401: "This needs somebody who has signed in.",
    404: "There is nothing here.",
    405: "This cannot be done here.",
    500: "Meadow failed at this; its log says why.",
}
