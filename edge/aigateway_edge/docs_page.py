"""`/docs`: the OpenAPI document in Swagger UI, with nothing fetched from another host.

The files are those of the package `fastapi-offline`; its own way to serve them, a subclass of FastAPI, is
not used. The page's content policy holds browsers to this host, so that a closed network sees the same page as any
other and nobody else learns who reads it. Not for the document itself: see `openapi`.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.requests import Request

_SCRIPT: Final = """
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null,
});
"""
"""`validatorUrl`: Swagger UI would send the document's address to swagger.io to have it judged."""
_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AI gateway</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/files/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">the document</a> does not.</noscript>
<script src="docs/files/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
_OWN_SCRIPT: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; script-src 'self' 'sha256-{_OWN_SCRIPT}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}


def routes() -> list[BaseRoute]:
    """The page and its files; its addresses are relative, so that it works behind any prefix."""
    files = StaticFiles(packages=[("fastapi_offline", "static")])
    return [Route("/docs", _page, name="docs"), Mount("/docs/files", files, name="docs_files")]


async def _page(_: Request) -> HTMLResponse:
    return HTMLResponse(_PAGE, headers=_HEADERS)
