"""Reads a Python traceback as frames, and folds those of libraries, so that the app's own stand out."""

import re
from dataclasses import dataclass, field

MAX_FRAMES = 400

_FRAME = re.compile(r'^\s*File "(?P<path>.*)", line (?P<line>\d+)(?:, in (?P<function>.*))?\s*$')
_LIBRARY = re.compile(r"site-packages|dist-packages|[/\\]lib(64)?[/\\]python\d|^<frozen |[/\\]pythonhosted[/\\]")


@dataclass(frozen=True)
class Frame:
    """One `File …, line …, in …` with the code below it."""

    path: str
    line: str
    function: str
    code: str
    library: bool


@dataclass
class Part:
    """A stretch of a traceback. `kind` is `text` (with `text`), `own` or `library` (with `frames`)."""

    kind: str
    text: str = ""
    frames: list[Frame] = field(default_factory=list)


def parts(traceback: str) -> list[Part]:
    """The traceback from top to bottom; neighbours of one kind are one part. Nothing is left out."""
    result: list[Part] = []
    lines = traceback.splitlines()
    index = frames = 0
    while index < len(lines):
        match = _FRAME.match(lines[index]) if frames < MAX_FRAMES else None
        if match is None:
            _add_text(result, lines[index])
            index += 1
            continue
        end = _end_of_code(lines, index)
        frame = _frame(match, lines[index + 1 : end])
        _add_frame(result, frame)
        frames += 1
        index = end
    return result


def _end_of_code(lines: list[str], start: int) -> int:
    """Code lies below its `File` line and deeper than it."""
    indent = _indent(lines[start])
    end = start + 1
    while end < len(lines) and lines[end].strip() and _indent(lines[end]) > indent:
        end += 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _frame(match: re.Match[str], code: list[str]) -> Frame:
    path = match["path"]
    indent = min((_indent(line) for line in code), default=0)
    text = "\n".join(line[indent:] for line in code)
    return Frame(path, match["line"], match["function"] or "", text, _LIBRARY.search(path) is not None)


def _add_frame(result: list[Part], frame: Frame) -> None:
    kind = "library" if frame.library else "own"
    if not result or result[-1].kind != kind:
        result.append(Part(kind))
    result[-1].frames.append(frame)


def _add_text(result: list[Part], line: str) -> None:
    if result and result[-1].kind == "text":
        result[-1].text += "\n" + line
    else:
        result.append(Part("text", line))
