"""The OpenAPI document, and the same as a page for people: plain HTML, its style allowed by its digest, no script."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from html import escape
from typing import Any

from aiohttp import web

from meadow.codec import encode
from meadow_api.v1 import replies
from meadow_api.v1.endpoint import BASE, Endpoint
from meadow_api.v1.openapi import ABOUT, document, parameters

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#e2e6e4, #2a3134); --soft: light-dark(#55605b, #9ba8a3);
  --sunken: light-dark(#eef0ef, #0c0f10); --accent: light-dark(#3f57d1, #93a5ff); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem 1rem 4rem;
  background: light-dark(#fff, #171b1d); color: light-dark(#1b211e, #e4e9e7); }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .25rem; padding-top: 1rem; border-top: 1px solid var(--line); }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9em; }
pre { background: var(--sunken); padding: .6rem .8rem; border-radius: 8px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; color: var(--soft); }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:nth-child(-n+2) { white-space: nowrap; } a { color: var(--accent); } p.soft, td.soft { color: var(--soft); }
.wide { overflow-x: auto; }
"""
POLICY = "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def document_routes(endpoints: Sequence[Endpoint], prefix: str) -> list[web.RouteDef]:
    """`/api/openapi.json` and `/api/docs`."""
    found = encode(document(endpoints, prefix))
    html = page(endpoints, prefix).encode()
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

    async def openapi(request: web.Request) -> web.StreamResponse:
        return await replies.json(request, found)

    async def docs(request: web.Request) -> web.StreamResponse:
        answer = await replies.json(request, html, kind="text/html; charset=utf-8")
        answer.headers["Content-Security-Policy"] = POLICY.format(digest=digest)
        return answer

    return [web.get("/api/openapi.json", openapi), web.get("/api/docs", docs)]


def page(endpoints: Sequence[Endpoint], prefix: str) -> str:
    """Every endpoint with its parameters, what it answers, and a call to copy."""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Meadow API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
    )
    about = "".join(f"<p>{_marked(text)}</p>" for text in ABOUT.strip().split("\n\n"))
    links = (
        f'<p><a href="{escape(prefix)}/api/openapi.json">openapi.json</a> is the same for programs. '
        f'<a href="{escape(prefix)}/">Back to the pages</a>.</p>'
    )
    return (
        head
        + "<main><h1>Meadow API</h1>"
        + about
        + links
        + "".join(_section(e, prefix) for e in endpoints)
        + "</main></body></html>"
    )


def _section(endpoint: Endpoint, prefix: str) -> str:
    path = BASE + endpoint.path
    return (
        f'<section><h2 id="{escape(endpoint.name)}"><code>GET {escape(path)}</code></h2>'
        f"<p>{_marked(endpoint.summary)}.</p>"
        + _table(("parameter", "type", ""), (_row(parameter) for parameter in parameters(endpoint)))
        + _answer(endpoint)
        + "".join(
            f"<p>{escape(e.sentence)}:</p><pre>{escape(call(endpoint, e.query, prefix))}</pre>"
            for e in endpoint.examples
        )
        + "</section>"
    )


def call(endpoint: Endpoint, query: str, prefix: str = "") -> str:
    """The call as a line for a shell."""
    url = f"http://localhost:5555{prefix}{BASE}{endpoint.path}" + (f"?{query}" if query else "")
    return f"curl '{url}'"


def _answer(endpoint: Endpoint) -> str:
    kinds = " or ".join(f"<code>{escape(kind)}</code>" for kind in endpoint.kinds)
    about = (getattr(endpoint.answer, "__doc__", None) or "").strip()
    paragraphs = "".join(f'<p class="soft">{_marked(text)}</p>' for text in about.split("\n\n"))
    return f"<p>Answers {kinds}.</p>{paragraphs}"


def _row(parameter: dict[str, Any]) -> Iterable[str]:
    schema = parameter["schema"]
    yield f"<code>{escape(parameter['name'])}</code>"
    yield escape(_kind(schema))
    yield _marked(parameter["description"]) + _limits(schema)


def _kind(schema: dict[str, Any]) -> str:
    return "list" if schema.get("type") == "array" else "one of" if "enum" in schema else str(schema.get("type", ""))


def _limits(schema: dict[str, Any]) -> str:
    values = schema.get("enum") or schema.get("items", {}).get("enum")
    said = [" ".join(f"<code>{escape(str(value))}</code>" for value in values)] if values else []
    if "minimum" in schema:
        said.append(f"{schema['minimum']:,g} to {schema['maximum']:,g}.")
    if schema.get("default") not in (None, "", []) and schema.get("type") != "array":
        said.append(f"<code>{escape(str(schema['default']))}</code> unless given.")
    return "".join(f" {text}" for text in said)


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return ""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f'<div class="wide"><table><tr>{titles}</tr>{"".join(lines)}</table></div>'


def _marked(text: str) -> str:
    """Escaped, with what stands in backticks as code."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
