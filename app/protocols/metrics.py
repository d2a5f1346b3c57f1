"""``GET /metrics``: Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.metrics import Metrics


def router(metrics: Metrics) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["metrics"])

    @routes.get(
        "/metrics",
        summary="All figures in the Prometheus text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def scrape() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return routes
