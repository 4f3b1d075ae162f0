"""Checks what may not lie in this repository: registry addresses, vendored code, secrets, paths of one machine,
and code that runs what it is given.

    python tools/check_repository.py [ROOT]

Looks at every file that git tracks or would track. Prints `file:line: message` for each finding, and ends with 1
if there is one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PRODUCT = ("core", "services", "plugins")
VENDORED = ("node_modules/", "static/vendor/")
SECRET_FILES = re.compile(
    r"(^|/)(\.env|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|[^/]+\.(pem|key|p12|pfx|jks|nk|creds))$"
)

# Each rule: what a line may not contain, and why. The patterns are written so that none matches itself.
LINE_RULES = [
    (
        re.compile(r"\bpypi\.org|\bpythonhosted\.org|\bregistry\.(npmjs|yarnpkg)\.|\bnpmjs\.(org|com)|\bdeb\.debian\."),
        "names a package registry's host; name the package, and let the client know where it lives",
    ),
    (re.compile(r'"resolved"\s*:'), "a lock file's download address; `services/web/.npmrc` keeps them out"),
    (re.compile(r"https?://\S+\.(whl|tgz|tar\.gz|zip)\b"), "a download address; take it from a package registry"),
    (re.compile(r"(?<![\w.~/$}-])/(work|root|home|Users)/"), "a path of one machine; use a relative one"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key; make it when it is needed"),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60})"), "a GitHub token"),
    (re.compile(r"\bglpat-[\w-]{20}"), "a GitLab token"),
    (re.compile(r"\bxox[abprs]-\d+-[\w-]{10}"), "a Slack token"),
    (re.compile(r"\bAIza[\w-]{35}"), "a Google key"),
    (re.compile(r"\bS[UAOCNX][A-Z2-7]{56}\b"), "a NATS seed; make it when it is needed"),
    (
        re.compile(r"""(?i)(secret|token|password|passwd|api_?key)["']?\s*[:=]\s*["'][A-Za-z0-9+/_=-]{32,}["']"""),
        "looks like a generated secret; make it when it is needed",
    ),
]
SCRIPT_RULES = [
    (re.compile(r"(?<![\w.])eval\s*\(|\bnew\s+Function\s*\("), "evaluates text; what a task carries is hostile"),
]

RUNS_TEXT = frozenset({"eval", "exec"})
UNPICKLES = frozenset({"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"})
MAY_UNPICKLE = "core/meadow/event_body.py"
"""Where --accept-pickle is obeyed, and nowhere else."""
UNSAFE_YAML = frozenset({"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"})


@dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def main(arguments: list[str]) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    findings = sorted(check(root, repository_files(root)))
    for finding in findings:
        print(finding)
    print(f"Repository: {len(findings)} findings." if findings else "Repository: nothing found that may not be here.")
    return 1 if findings else 0


def repository_files(root: Path) -> list[str]:
    """The files that git tracks, or would track after `git add`; ignored ones only if somebody forced them in."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted({name for name in listing.split("\0") if name and (root / name).is_file()})


def check(root: Path, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        yield from check_name(name)
        text = read_text(root / name)
        if text is not None:
            yield from check_text(name, text)
    yield from check_constraints(root)


def read_text(path: Path) -> str | None:
    """The file's text; None for pictures and other binary files."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def check_name(name: str) -> Iterator[Finding]:
    if any(folder in name for folder in VENDORED):
        yield Finding(name, 1, "somebody else's code is tracked; `git rm --cached` it, the build fetches it")
    if SECRET_FILES.search(name):
        yield Finding(name, 1, "a file for secrets is tracked")


def check_text(name: str, text: str) -> Iterator[Finding]:
    yield from check_lines(name, text, LINE_RULES)
    if not is_product(name):
        return
    if name.endswith(".py"):
        yield from check_python(name, text)
    if name.endswith((".js", ".mjs", ".html")):
        yield from check_lines(name, text, SCRIPT_RULES)


def is_product(name: str) -> bool:
    return PurePosixPath(name).parts[0] in PRODUCT


def check_lines(name: str, text: str, rules: list[tuple[re.Pattern[str], str]]) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, message in rules:
            found = pattern.search(line)
            if found:
                yield Finding(name, number, message)


def check_python(name: str, source: str) -> Iterator[Finding]:
    """What product code may not call or import; read from the syntax tree, so words in texts do no harm."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield Finding(name, error.lineno or 1, f"not valid Python: {error.msg}")
        return
    for node in ast.walk(tree):
        for message in forbidden(node, name):
            yield Finding(name, getattr(node, "lineno", 1), message)


def forbidden(node: ast.AST, name: str) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=function)) if function in RUNS_TEXT:
            yield f"`{function}()` runs what it is given; parse it instead"
        case ast.Attribute(value=ast.Name(id="builtins"), attr=function) if function in RUNS_TEXT:
            yield f"`builtins.{function}` runs what it is given; parse it instead"
        case ast.Attribute(value=ast.Name(id="yaml"), attr=function) if function in UNSAFE_YAML:
            yield f"`yaml.{function}` builds any object; use `yaml.safe_load`"
        case ast.ImportFrom(module="yaml", names=names):
            yield from (f"`yaml.{name.name}` builds any object" for name in names if name.name in UNSAFE_YAML)
        case ast.ImportFrom(module=str(module)):
            yield from unpickling([module])
        case ast.Import(names=[ast.alias(name="pickle")]) if name == MAY_UNPICKLE:
            return
        case ast.Import(names=names):
            yield from unpickling([module.name for module in names])


def unpickling(modules: Iterable[str]) -> Iterator[str]:
    for module in modules:
        if module.partition(".")[0] in UNPICKLES:
            yield f"`{module}` runs code while it reads; use JSON"


def check_constraints(root: Path) -> Iterator[Finding]:
    """Every dependency is pinned: whoever adds one also runs `make constraints`."""
    project, constraints = root / "pyproject.toml", root / "constraints.txt"
    if not (project.is_file() and constraints.is_file()):
        return
    pinned = {requirement_name(line) for line in constraints.read_text().splitlines() if "==" in line}
    for requirement in requirements(tomllib.loads(project.read_text())):
        if requirement_name(requirement) not in pinned:
            yield Finding("constraints.txt", 1, f"does not pin {requirement_name(requirement)}; run `make constraints`")


def requirements(project: dict[str, dict[str, object]]) -> Iterator[str]:
    table = project.get("project", {})
    dependencies = table.get("dependencies", [])
    extras = table.get("optional-dependencies", {})
    assert isinstance(dependencies, list)
    assert isinstance(extras, dict)
    yield from dependencies
    for group in extras.values():
        # An extra may name this distribution's own other extras: meadow[postgresql].
        yield from (each for each in group if requirement_name(each) != table.get("name"))


def requirement_name(requirement: str) -> str:
    """The name in its normal form: `SQLAlchemy[asyncio]>=2` is `sqlalchemy`."""
    name = re.match(r"[A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", name.group() if name else "").lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
