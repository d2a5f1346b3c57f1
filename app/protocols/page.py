"""``GET /``: a page for people, to try every model. One file, nothing fetched from elsewhere."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

# its own inline script and style, its own origin, and pictures that the visitor chose
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter()
    page = files("app.protocols").joinpath("page.html").read_text("utf-8")

    @routes.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})

    return routes
