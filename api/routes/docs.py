"""`/docs` and `/redoc`: FastAPI's own pages, which may run their own script and the viewer they load, nothing else."""

import base64
import hashlib
import re

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

CDN = "https://cdn.jsdelivr.net/npm"
SWAGGER = f"{CDN}/swagger-ui-dist@5.17.14/"
REDOC = f"{CDN}/redoc@2.1.5/"
"""Exact versions: what a CDN serves under them never changes."""
NO_ICON = "data:,"


@router.get("/docs")
async def swagger(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url=str(request.app.openapi_url),
        title="MASUKA",
        swagger_js_url=f"{SWAGGER}swagger-ui-bundle.js",
        swagger_css_url=f"{SWAGGER}swagger-ui.css",
        swagger_favicon_url=NO_ICON,
    )
    return _guarded(page, SWAGGER)


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    page = get_redoc_html(
        openapi_url=str(request.app.openapi_url),
        title="MASUKA",
        redoc_js_url=f"{REDOC}bundles/redoc.standalone.js",
        redoc_favicon_url=NO_ICON,
        with_google_fonts=False,
    )
    return _guarded(page, REDOC)


def _guarded(page: HTMLResponse, viewer: str) -> HTMLResponse:
    scripts = [_hash(script) for script in re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)]
    page.headers["Content-Security-Policy"] = "; ".join(
        (
            "default-src 'none'",
            f"script-src {viewer} {' '.join(scripts)}".rstrip(),
            f"style-src {viewer} 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src data:",
            "connect-src 'self'",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return page


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
