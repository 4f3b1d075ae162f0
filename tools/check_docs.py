"""Checks the documentation: links lead somewhere, every service has its README, every setting is explained.

    python tools/check_docs.py [ROOT]

Links are the relative ones of every Markdown file in the repository, with their `#anchor`. Prints
`file:line: message` for each finding, and ends with 1 if there is one.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from check_repository import Finding, repository_files

SETTINGS = "core/meadow/settings.py"
SETTINGS_PAGE = "docs/reference/settings.md"


@dataclass(frozen=True)
class Link:
    line: int
    target: str


@dataclass(frozen=True)
class Page:
    """A Markdown file, as far as links go."""

    links: tuple[Link, ...]
    anchors: frozenset[str]


def main(arguments: list[str]) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    names = repository_files(root)
    texts = {name: (root / name).read_text(encoding="utf-8") for name in names if is_read(name)}
    findings = sorted(check(names, texts))
    for finding in findings:
        print(finding)
    print(f"Docs: {len(findings)} findings." if findings else "Docs: every link leads somewhere, nothing is missing.")
    return 1 if findings else 0


def is_read(name: str) -> bool:
    return name.endswith(".md") or name == SETTINGS


def check(names: Iterable[str], texts: dict[str, str]) -> Iterator[Finding]:
    """`names` are all files of the repository, `texts` the contents of those that matter here."""
    names = frozenset(names)
    yield from check_links(names, {name: read_page(text) for name, text in texts.items() if name.endswith(".md")})
    yield from check_rooms(names)
    if SETTINGS in texts and SETTINGS_PAGE in texts:
        yield from check_settings(texts[SETTINGS], texts[SETTINGS_PAGE])


def check_links(names: frozenset[str], pages: dict[str, Page]) -> Iterator[Finding]:
    places = names | {folder for name in names for folder in folders(name)}
    for name, page in pages.items():
        for link in page.links:
            problem = broken(name, link.target, places, pages)
            if problem:
                yield Finding(name, link.line, problem)


def folders(name: str) -> Iterator[str]:
    """Every folder above a file: `docs/reference/a.md` lies in `docs/reference`, `docs` and `.`."""
    while name:
        name = posixpath.dirname(name)
        yield name or "."


def broken(name: str, target: str, places: frozenset[str], pages: dict[str, Page]) -> str | None:
    """What is wrong with a link of the page `name`; None if it leads somewhere, or out of the repository."""
    url = urlsplit(target)
    if url.scheme or url.netloc:
        return None
    place = linked_file(name, unquote(url.path))
    if place not in places:
        return f"link to {target}: no such file in the repository"
    if url.fragment and place in pages and unquote(url.fragment) not in pages[place].anchors:
        return f"link to {target}: {place} has no such heading"
    return None


def linked_file(name: str, path: str) -> str:
    if not path:
        return name
    if path.startswith("/"):
        return posixpath.normpath(path.lstrip("/") or ".")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def read_page(text: str) -> Page:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return Page(links=tuple(links(tokens)), anchors=frozenset(anchors(tokens)))


def links(tokens: list[Token]) -> Iterator[Link]:
    for block in tokens:
        line = block.map[0] + 1 if block.map else 1
        for token in block.children or []:
            target = token.attrGet("href" if token.type == "link_open" else "src")
            if target:
                yield Link(line, str(target))


def anchors(tokens: list[Token]) -> Iterator[str]:
    """What a `#fragment` may name: each heading's slug, as GitHub makes it, and ids written in HTML."""
    seen: dict[str, int] = {}
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            slug = slugify(plain_text(token))
            count = seen.setdefault(slug, 0)
            seen[slug] += 1
            yield f"{slug}-{count}" if count else slug
        for part in [token, *(token.children or [])]:
            if part.type in ("html_block", "html_inline"):
                yield from re.findall(r"""\b(?:id|name)=["']([^"']+)["']""", part.content)


def plain_text(heading: Token) -> str:
    return "".join(part.content for part in heading.children or [] if part.type in ("text", "code_inline"))


def slugify(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def check_rooms(names: frozenset[str]) -> Iterator[Finding]:
    for room in sorted({"/".join(name.split("/")[:2]) for name in names if re.match(r"services/[^/]+/", name)}):
        if f"{room}/README.md" not in names:
            yield Finding(f"{room}/README.md", 1, "missing; say what the room hears, says, needs, and its settings")


def check_settings(source: str, page: str) -> Iterator[Finding]:
    explained = {word_of(word) for word in re.findall(r"[A-Za-z][\w-]*", page)}
    for name, line in setting_names(source):
        if name not in explained:
            yield Finding(SETTINGS, line, f"the setting `{name}` is not mentioned in {SETTINGS_PAGE}")


def word_of(word: str) -> str:
    """The setting that a word of the page may mean: `nats-url` and `MEADOW_NATS_URL` are `nats_url`."""
    return word.lower().replace("-", "_").removeprefix("meadow_")


def setting_names(source: str) -> Iterator[tuple[str, int]]:
    """The public fields of the class `Settings`, and their lines."""
    for settings in ast.parse(source).body:
        if isinstance(settings, ast.ClassDef) and settings.name == "Settings":
            yield from public_fields(settings)


def public_fields(dataclass: ast.ClassDef) -> Iterator[tuple[str, int]]:
    for field in dataclass.body:
        match field:
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                if "ClassVar" not in ast.unparse(field.annotation):
                    yield name, field.lineno


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
