"""The files below `/static`: read once, served from memory, cached by browsers for as long as they do not change."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

CONTENT_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ico": "image/vnd.microsoft.icon",
    ".txt": "text/plain",
}
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """One file as it is served."""

    body: bytes
    content_type: str
    etag: str


@dataclass(frozen=True)
class Assets:
    """All files by their path below `static/`. `version` is a hash of all of them, so one address changes with all
    and the modules can import each other by relative paths."""

    files: Mapping[str, Asset]
    version: str

    @classmethod
    def read(cls, folder: Path) -> "Assets":
        """Everything in `folder` whose type is known."""
        files = {
            path.relative_to(folder).as_posix(): _asset(path)
            for path in sorted(folder.rglob("*"))
            if path.suffix in CONTENT_TYPES and path.is_file()
        }
        digest = hashlib.blake2s(digest_size=6)
        for name, asset in files.items():
            digest.update(f"{name}\0{asset.etag}\0".encode())
        return cls(files, digest.hexdigest())

    async def serve(self, request: web.Request) -> web.Response:
        """`GET /static/<path>`; below the version the browser need not ask again."""
        name = request.match_info["path"]
        versioned, _, rest = name.partition("/")
        current = versioned == self.version
        asset = self.files.get(rest if current else name)
        if asset is None:
            raise web.HTTPNotFound(text="There is no such file.")
        headers = {"Cache-Control": FOR_EVER if current else "no-cache", "ETag": f'"{asset.etag}"'}
        if any(tag.value == asset.etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        charset = "utf-8" if asset.content_type.startswith("text/") else None
        return web.Response(body=asset.body, content_type=asset.content_type, charset=charset, headers=headers)


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, CONTENT_TYPES[path.suffix], hashlib.blake2s(body, digest_size=12).hexdigest())
