"""`/docs`: the API's description as one page of plain HTML, with nothing from outside and no script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f3f3f3; border-radius: 4px; padding: 0 .25em }
pre { padding: .75em; overflow-x: auto }
section { border-top: 1px solid #ccc; margin-top: 1.5rem }
table { border-collapse: collapse; width: 100% }
td { text-align: left; padding: .2em .8em .2em 0; vertical-align: top }
tr { border-bottom: 1px solid #eee }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } code, pre { background: #262626 }
 a { color: #8ab4f8 } section, tr { border-color: #333 } }
"""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(described: dict[str, Any]) -> str:
    """HTML of an OpenAPI document."""
    info = described["info"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
            "<p>Send a write key as the user name of Basic auth, with an empty password. ",
            "Errors are RFC 9457 problem details. As a file: <code>/openapi.json</code></p>",
            *_operations(described),
            "<section><h2>Types</h2></section>",
            *(_type(name, schema) for name, schema in described["components"]["schemas"].items()),
            "</body></html>",
        ]
    )


def _operations(described: dict[str, Any]) -> Iterator[str]:
    tag = ""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<section><h2>{escape(tag)}</h2></section>"
            yield f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(operation['summary'])}</p>"
            yield _table(_details(operation))


def _details(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for parameter in operation.get("parameters", []):
        where = f"<code>{escape(parameter['name'])}</code> <small>{parameter['in']}</small>"
        yield where, f"{escape(parameter['description'])} ({_shape(parameter['schema'])})"
    if "requestBody" in operation:
        yield "takes", _content(operation["requestBody"])
    for status, response in operation["responses"].items():
        yield status, f"{escape(response['description'])}{': ' * ('content' in response)}{_content(response)}"


def _content(described: dict[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_shape(of['schema'])}" for media, of in described.get("content", {}).items()
    )


def _type(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    rows = [
        (f"<code>{escape(field)}</code>{' *' if field in needed else ''}", f"{_shape(of)} {_said(of)}")
        for field, of in schema.get("properties", {}).items()
    ]
    said = f"<p>{escape(schema.get('description', ''))}</p>"
    return f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>{said}{_table(rows)}'


def _said(schema: dict[str, Any]) -> str:
    example = f" e.g. <code>{escape(json.dumps(schema['examples'][0]))}</code>" if schema.get("examples") else ""
    return escape(schema.get("description", "")) + example


def _shape(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_shape(s) for s in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {', '.join(map(_shape, schema.get('prefixItems') or [schema.get('items', {})]))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_shape(schema['additionalProperties'])}"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    return f"<code>{escape(str(schema.get('format') or schema.get('type') or 'any'))}</code>"


def _table(rows: Any) -> str:
    return "<table>" + "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows) + "</table>"


def routes(described: dict[str, Any]) -> list[Route]:
    html = page(described)

    async def docs(request: Request) -> Response:
        return HTMLResponse(html, headers=HEADERS)

    return [Route("/docs", docs)]
