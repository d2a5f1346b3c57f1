"""``create_app(settings)``: reads the manifests, mounts the doors; the lifespan loads and proves."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app import __version__, memory, tasks
from app.admission import TICKET, Admission, Ticket
from app.bundle.golden import GoldenRows
from app.bundle.manifest import Manifest
from app.errors import BundleError, ServingError, quoted
from app.metrics import Metrics
from app.protocols import health, metrics, models, openapi, page, problem
from app.protocols.answers import Answers
from app.protocols.decoders import Decoders
from app.protocols.direct import DirectDoor, predict_targets
from app.protocols.open_inference import infer_routes
from app.protocols.open_inference.infer_door import InferDoor, InferTarget
from app.protocols.open_inference.inference import Inference
from app.protocols.open_inference.model import InferModel
from app.protocols.predict import PredictDoor
from app.serving.catalog import Catalog
from app.serving.service import Service
from app.settings import Settings
from app.tasks import Task

logger = logging.getLogger("app.main")


class ZeroToOne(FastAPI):
    """FastAPI with admission in front, and a way past its middleware for predictions.

    Attributes:
        admission: Lets every request in.
        catalog: The models.
        figures: What is counted.
        direct: Takes plain predictions straight from their connections.
        inference: The data plane in the words of the Open Inference Protocol.
    """

    admission: Admission
    catalog: Catalog
    figures: Metrics
    direct: DirectDoor
    inference: Inference
    _door: PredictDoor
    _infer_door: InferDoor
    _tasks: dict[str, Task]
    _fast_paths: dict[str, str | None]
    _infer_paths: dict[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request and take it to its door."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        ticket = scope.get(TICKET) or self.admission.admit(scope)
        if scope["method"] == "POST" and scope["path"] in self._fast_paths:
            await self._door.serve(ticket, self._fast_paths[scope["path"]], scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"] in self._infer_paths:
            await self._infer_door.serve(ticket, self._infer_paths[scope["path"]], scope, receive, send)
            return

        async def send_with_receipts(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.admission.receipts(ticket)]
            await send(message)

        if ticket.refusal is not None:
            await _problem_response(ticket.refusal, ticket)(scope, receive, send_with_receipts)
            return
        scope[TICKET] = ticket
        await super().__call__(scope, receive, send_with_receipts)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, the bodies of the prediction doors included."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= openapi.components(self._tasks)
        return super().openapi()


def create_app(settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> ZeroToOne:
    """Build the service. Nothing is loaded before its lifespan starts.

    Raises:
        SettingsError: The models folder is missing or empty, or a model that the settings name is not in it.
    """
    figures = Metrics()
    catalog = Catalog(settings, figures, clock=clock)
    limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
    by_name = _create_tasks(catalog, limits)
    admission = Admission(settings, figures, clock=clock)
    decoders = Decoders(clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(catalog, by_name))
        yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        catalog.close()
        decoders.close()

    app = ZeroToOne(
        title="Zero to One",
        summary="Proven models over HTTP",
        version=__version__,
        lifespan=lifespan,
        openapi_tags=[{"name": name} for name in ("predict", "models", "health", "metrics")],
    )
    app.admission, app.catalog, app.figures = admission, catalog, figures
    app._tasks = by_name
    service = Service(catalog, figures, clock=clock)
    answers = {name: Answers(_manifest(catalog, name), task) for name, task in by_name.items()}
    app._door = PredictDoor(
        service, by_name, answers, admission, figures, decoders=decoders, default_model=settings.default_model
    )
    models = {name: InferModel(_manifest(catalog, name), task) for name, task in by_name.items()}
    infer_targets = {name: InferTarget(model, by_name[name], figures) for name, model in models.items()}
    app.inference = Inference(service, models, figures, decoders=decoders)
    app._infer_door = InferDoor(service, app.inference, infer_targets, admission, figures, decoders=decoders)
    targets = predict_targets(by_name, answers, figures)
    targets |= {f"/v2/models/{name}/infer".encode(): target for name, target in infer_targets.items()}
    app.direct = DirectDoor(service, targets, admission, figures, decoders=decoders)
    app._infer_paths = {f"/v2/models/{name}/infer": name for name in by_name}
    app._fast_paths = {f"/predict/{name}": name for name in by_name} | {"/predict": None}
    _mount(app, settings, figures)
    return app


def _create_tasks(catalog: Catalog, limits: tasks.Limits) -> dict[str, Task]:
    """Create the task of every model, that of its highest version; a version that does not fit its task has failed."""
    by_name: dict[str, Task] = {}
    for version in catalog.versions():
        if version.bundle is None:
            continue
        try:
            by_name[version.ref.name] = tasks.create(version.bundle, limits)
        except Exception as exc:  # whatever it is, it is this version's alone
            if not isinstance(exc, BundleError):
                logger.exception("%s: unexpected failure while its task was created", version.label)
            version.bundle = None
            version.fail(str(exc) or type(exc).__name__)
    return by_name


def _manifest(catalog: Catalog, name: str) -> Manifest:
    manifest = catalog.models[name].manifest
    assert manifest is not None  # what has a task has a manifest
    return manifest


async def _load(catalog: Catalog, by_name: Mapping[str, Task]) -> None:
    def check_contract(manifest: Manifest, golden: GoldenRows) -> None:
        tasks.check_contract(by_name[manifest.name], golden)

    await catalog.load(check_contract)
    memory.settle()


def _mount(app: ZeroToOne, settings: Settings, figures: Metrics) -> None:
    """Add the routes of every door, and the translation of errors that rise through FastAPI."""

    async def predict_named_in_path(request: Request) -> Response:
        return await respond(request, request.path_params["model"])

    async def predict_named_in_body(request: Request) -> Response:
        return await respond(request, None)

    async def respond(request: Request, model: str | None) -> Response:
        reply = await app._door.answer(request.scope[TICKET], model, request.scope, request.receive)
        response = Response(reply.body, reply.status)
        response.raw_headers = list(reply.headers)
        return response

    def predict_one(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def predict(request: Request) -> Response:
            return await respond(request, name)

        return predict

    for name, task in app._tasks.items():
        documented = openapi.predict_route(_manifest(app.catalog, name), task)
        app.add_api_route(f"/predict/{name}", predict_one(name), methods=["POST"], **documented)
    app.add_api_route(
        "/predict",
        predict_named_in_body,
        methods=["POST"],
        **openapi.named_predict_route(app._tasks, settings.default_model),
    )
    app.add_api_route("/predict/{model}", predict_named_in_path, methods=["POST"], include_in_schema=False)
    app.include_router(infer_routes.router(app._infer_door))
    app.include_router(models.router(app.catalog, app._tasks, settings))
    app.include_router(health.router(app.catalog, is_draining=lambda: app.admission.is_draining))
    app.include_router(metrics.router(figures))
    app.include_router(page.router())
    app.add_exception_handler(ServingError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_error)


async def _on_error(request: Request, exc: Exception) -> Response:
    return _problem_response(exc, request.scope[TICKET])


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    """Write what Starlette's router refuses (404, 405) as a problem too."""
    assert isinstance(exc, HTTPException)
    phrase = HTTPStatus(exc.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    ticket: Ticket = request.scope[TICKET]
    body = problem.Problem(
        type=f"urn:zero-to-one:problem:{code}",
        title=phrase,
        status=exc.status_code,
        detail=f"{request.method} {quoted(request.url.path)}: {exc.detail}",
        code=code,
        request_id=ticket.request_id.decode("ascii"),
    )
    return Response(
        body.model_dump_json(exclude_none=True), exc.status_code, exc.headers, media_type=problem.MEDIA_TYPE
    )


def _problem_response(error: Exception, ticket: Ticket) -> Response:
    status, headers, body = problem.render(error, ticket.request_id)
    response = Response(body, status)
    response.raw_headers = headers
    return response
