"""Everything that Meadow can refuse or fail at, in one tree.

    MeadowError
    ├── StartRefused            Meadow does not start; the message says what to do
    │   ├── SettingsError       a setting is wrong or unknown
    │   └── DataDirectoryInUse  another Meadow owns the data directory
    ├── BusError                NATS did not do what was asked
    │   ├── BusUnavailable      no connection, or it was lost meanwhile
    │   │   └── Superseded      somebody else was faster, or does this now
    │   ├── NobodyAnswers       no service listens on that subject
    │   └── AnswerTimedOut      a service listens, but did not answer in time
    ├── FileHeld                another process holds a lock file (carries who)
    ├── InvalidMessage          bytes on the bus that no version of Meadow writes
    ├── InvalidEvent            an event that a worker or client sent and that cannot be understood
    ├── BrokerUnavailable       the Celery broker cannot be reached
    └── Refused                 a wish was understood and turned down (carries a code)

A message is one sentence for people and says what to do.
"""


class MeadowError(Exception):
    """Base of all errors that Meadow raises on purpose."""


class StartRefused(MeadowError):
    """Meadow does not start."""

    exit_code = 1


class SettingsError(StartRefused):
    """A setting is wrong or unknown."""

    exit_code = 2


class DataDirectoryInUse(StartRefused):
    """Another Meadow owns the data directory."""


class FileHeld(MeadowError):
    """Another process holds a lock file; `owner` is what it wrote there of itself."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"the file is held by {owner}")
        self.owner = owner


class BusError(MeadowError):
    """NATS did not do what was asked."""


class BusUnavailable(BusError):
    """There is no connection to NATS."""


class Superseded(BusUnavailable):
    """NATS refused it because somebody else was faster, or does this now."""


class NobodyAnswers(BusError):
    """No service listens on the subject."""


class AnswerTimedOut(BusError):
    """A service listens, but did not answer in time."""


class InvalidMessage(MeadowError):
    """Bytes on the bus that cannot be decoded."""


class InvalidEvent(MeadowError):
    """An event that cannot be understood; `reason` is the label it is counted under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class BrokerUnavailable(MeadowError):
    """The Celery broker cannot be reached."""


class Refused(MeadowError):
    """A wish that was understood and turned down; `code` is one of `meadow.commands.CODES`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
