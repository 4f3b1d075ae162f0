"""The OpenAPI 3.1 document, made from the endpoints and their types; and what is served of it."""

from collections.abc import Sequence
from typing import Any

import msgspec

import meadow
from meadow.problems import Problem
from meadow_api.v1.endpoint import BASE, Endpoint

REF = "#/components/schemas/{name}"
PROBLEM = {"application/json": {"schema": {"$ref": REF.format(name="Problem")}}}
WITHOUT_NUL = "^[^\\u0000]*$"
ETAG = {
    "ETag": {
        "description": "A weak validator: send it as `If-None-Match`, and an answer that is still so comes as a 304.",
        "schema": {"type": "string", "pattern": '^W/"[0-9a-f]+"$'},
    }
}
ABOUT = """\
The read API of Meadow. Parameters that are not known, of the wrong type or out of range are refused with a 400.

Every fault is answered in one shape: `{"error": "a-word", "message": "A sentence.", "hint": "What to do."}`,
with a `position` where a text is at fault.

Times are UTC epoch seconds. Lists are paged by cursors. JSON carries a weak `ETag`, and is packed with gzip if you
take it.
"""


def document(endpoints: Sequence[Endpoint], prefix: str = "") -> dict[str, Any]:
    """The whole document."""
    answers = [endpoint.answer for endpoint in endpoints if endpoint.answer is not None]
    schemas, components = msgspec.json.schema_components([*answers, Problem], ref_template=REF)
    by_answer = dict(zip([*map(id, answers), id(Problem)], schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meadow",
            "version": meadow.__version__,
            "summary": "What Celery clusters do and did",
            "description": ABOUT,
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            BASE + endpoint.path: {
                "get": operation(endpoint, by_answer.get(id(endpoint.answer))),
                "head": {**operation(endpoint, None), "operationId": f"{endpoint.name}Head"},
            }
            for endpoint in endpoints
        },
        "components": {"schemas": components},
    }


def operation(endpoint: Endpoint, schema: Any) -> dict[str, Any]:
    """One operation. Without a `schema` it answers headers only."""
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [endpoint.path.split("/")[1]],
        "parameters": parameters(endpoint),
        "responses": responses(endpoint, schema),
    }


def parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    """The parameters, with their types as JSON Schema."""
    (_,), components = msgspec.json.schema_components([endpoint.parameters], ref_template=REF)
    properties: dict[str, Any] = components[endpoint.parameters.__name__]["properties"]
    required = components[endpoint.parameters.__name__].get("required", [])
    found = []
    for name, schema in properties.items():
        plain = _without_null(schema)
        in_path = "{" + name + "}" in endpoint.path
        found.append(
            {
                "name": name,
                "in": "path" if in_path else "query",
                "required": in_path or name in required,
                "description": plain.pop("description", ""),
                "schema": _readable(plain),
                **({"style": "form", "explode": False} if plain.get("type") == "array" else {}),
            }
        )
    return found


def responses(endpoint: Endpoint, schema: Any) -> dict[str, Any]:
    """The answers by status."""
    json = endpoint.kinds == ("application/json",)
    good: dict[str, Any] = {"description": endpoint.summary, "headers": ETAG if json and endpoint.load else {}}
    if schema is not None:
        good["content"] = {kind: {"schema": schema if json else {"type": "string"}} for kind in endpoint.kinds}
    problems = {400: "A parameter is unknown, of the wrong type, or out of range.", 503: "The store does not answer."}
    if endpoint.missing:
        problems[404] = "Nothing is known of it."
    problems |= {
        401: "Nobody has signed in, or the API is closed to those who have not.",
        403: "The request is refused.",
        **endpoint.also,
    }
    found = {str(status): _problem(text, with_body=schema is not None) for status, text in sorted(problems.items())}
    if endpoint.name == "showHealth":
        found["503"] = {**good, "description": "Facts do not reach the store; `error` says why."}
    unchanged = {"304": {"description": "What you have is still so.", "headers": ETAG}} if json else {}
    return {"200": good, **unchanged, **found}


def _problem(text: str, *, with_body: bool) -> dict[str, Any]:
    return {"description": text, **({"content": PROBLEM} if with_body else {})}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is `null`; one that is sent never is."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    return {**rest, **kinds[0]} if kinds else rest


def _readable(schema: dict[str, Any]) -> dict[str, Any]:
    """Enumerations have no type in msgspec's schema; with one they read better."""
    if schema.get("type") == "string":
        return {**schema, "pattern": WITHOUT_NUL}
    if "enum" in schema:
        return {"type": "string", **schema}
    if "items" in schema:
        return {**schema, "items": _readable(schema["items"]), "default": list(schema.get("default", ()))}
    return schema
