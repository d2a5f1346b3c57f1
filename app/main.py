"""``create_app(settings)``: reads the manifests, mounts the doors; the lifespan loads and proves."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app import __version__, memory, tasks
from app.admission import TICKET, Admission, Ticket
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.errors import BundleError, ServingError, quoted
from app.metrics import Metrics
from app.protocols import health, metrics, models, openapi, page, problem
from app.protocols.answers import Answers
from app.protocols.decoders import Decoders
from app.protocols.direct import DirectDoor, predict_targets
from app.protocols.open_inference import errors as open_inference
from app.protocols.open_inference import infer_routes
from app.protocols.open_inference import routes as control_routes
from app.protocols.open_inference.infer_door import InferDoor, InferTarget
from app.protocols.open_inference.inference import Inference
from app.protocols.open_inference.model import InferModel
from app.protocols.predict import PredictDoor
from app.serving.catalog import Catalog
from app.serving.repository import Repository
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
        repository: Loads and unloads models.
    """

    admission: Admission
    catalog: Catalog
    figures: Metrics
    direct: DirectDoor
    repository: Repository
    _limits: tasks.Limits
    _clock: Callable[[], float]
    _settings: Settings
    _named: APIRouter
    _is_mounted: bool = False
    _door: PredictDoor
    _infer_door: InferDoor
    _tasks: dict[str, Task]
    _answers: dict[str, Answers]
    _models: dict[str, InferModel]
    _infer_targets: dict[str, InferTarget]
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
            await _error_response(ticket.refusal, scope["path"], ticket)(scope, receive, send_with_receipts)
            return
        scope[TICKET] = ticket
        await super().__call__(scope, receive, send_with_receipts)

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        """Make ready what the doors need for a model; see :class:`app.serving.repository.Doors`."""
        task = tasks.create(bundle, self._limits)
        return partial(self._admit, bundle.manifest, task)

    def check_contract(self, manifest: Manifest, golden: GoldenRows) -> None:
        """Hold a model's task against its golden rows; raises :class:`BundleError`."""
        tasks.check_contract(self._tasks[manifest.name], golden)

    def _admit(self, manifest: Manifest, task: Task) -> None:
        """Open every door for a model, at the start or later. Of a known one, the task of its newest version counts."""
        name = manifest.name
        is_new = name not in self._tasks
        self._tasks[name], self._answers[name] = task, Answers(manifest, task)
        self._models[name] = InferModel(manifest, task)
        self._infer_targets[name] = InferTarget(self._models[name], task, self.figures)
        self.direct.targets |= predict_targets({name: task}, self._answers, self.figures)
        self.direct.targets[f"/v2/models/{name}/infer".encode()] = self._infer_targets[name]
        self._fast_paths[f"/predict/{name}"] = name
        self._infer_paths[f"/v2/models/{name}/infer"] = name
        if is_new and self._is_mounted:
            self._route_models()

    def _route_models(self) -> None:
        """Write the routes that tell OpenAPI the names of the models and the types of each."""
        routes = self._named
        routes.routes.clear()
        for name, task in self._tasks.items():
            manifest = self.catalog.models[name].contract
            assert manifest is not None  # what has a task has a manifest
            routes.add_api_route(
                f"/predict/{name}",
                partial(self._predict, name),
                methods=["POST"],
                **openapi.predict_route(manifest, task),
            )
        routes.add_api_route(
            "/predict",
            partial(self._predict, None),
            methods=["POST"],
            **openapi.named_predict_route(self._tasks, self._settings.default_model),
        )
        routes.include_router(infer_routes.router(self._infer_door, self._tasks))
        routes.include_router(control_routes.router(
            self.catalog, self._tasks, self._settings, self.figures, self.admission, self.repository, clock=self._clock
        ))
        routes.include_router(models.router(self.catalog, self._tasks, self._settings))
        self.openapi_schema = None  # it is written anew when it is asked for

    async def _predict(self, model: str | None, request: Request) -> Response:
        reply = await self._door.answer(request.scope[TICKET], model, request.scope, request.receive)
        response = Response(reply.body, reply.status)
        response.raw_headers = list(reply.headers)
        return response

    async def _predict_named_in_path(self, request: Request) -> Response:
        return await self._predict(request.path_params["model"], request)

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
    admission = Admission(settings, figures, clock=clock)
    decoders = Decoders(clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app))
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
        openapi_tags=[{"name": name} for name in ("predict", "open inference", "models", "health", "metrics")],
    )
    app.admission, app.catalog, app.figures, app._clock = admission, catalog, figures, clock
    app._limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
    app._tasks, app._answers, app._models, app._infer_targets = {}, {}, {}, {}
    service = Service(catalog, clock=clock)
    app._door = PredictDoor(
        service, app._tasks, app._answers, admission, figures, decoders=decoders, default_model=settings.default_model
    )
    app._infer_door = InferDoor(
        service,
        Inference(service, app._models, figures, decoders=decoders),
        app._infer_targets,
        admission,
        figures,
        decoders=decoders,
    )
    app.direct = DirectDoor(service, {}, admission, figures, decoders=decoders)
    app._infer_paths, app._fast_paths = {}, {"/predict": None}
    app.repository = Repository(catalog, settings, doors=app, check_contract=app.check_contract)
    _admit_all(app, catalog)
    app._settings = settings
    _mount(app, figures)
    app._is_mounted = True
    return app


def _admit_all(app: ZeroToOne, catalog: Catalog) -> None:
    """Open the doors for every model; a version that does not fit its task has failed."""
    for version in catalog.versions():
        if version.bundle is None:
            continue
        try:
            admit = app.prepare(version.bundle)
        except Exception as exc:  # whatever it is, it is this version's alone
            if not isinstance(exc, BundleError):
                logger.exception("%s: unexpected failure while its task was created", version.label)
            version.bundle = None
            version.fail(str(exc) or type(exc).__name__)
        else:
            catalog.models[version.ref.name].contract = version.bundle.manifest
            admit()


async def _load(app: ZeroToOne) -> None:
    await app.catalog.load(app.check_contract)
    memory.settle()


def _mount(app: ZeroToOne, figures: Metrics) -> None:
    """Add the routes of every door, and the translation of errors that rise through FastAPI."""
    app._named = APIRouter()
    app._route_models()
    app.include_router(app._named)
    app.add_api_route("/predict/{model}", app._predict_named_in_path, methods=["POST"], include_in_schema=False)
    app.include_router(health.router(app.catalog, is_draining=lambda: app.admission.is_draining))
    app.include_router(metrics.router(figures))
    app.include_router(page.router())
    app.add_exception_handler(ServingError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_error)


async def _on_error(request: Request, exc: Exception) -> Response:
    return _error_response(exc, request.url.path, request.scope[TICKET])


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    """Write what Starlette's router refuses (404, 405) in the form of its door too."""
    assert isinstance(exc, HTTPException)
    phrase = HTTPStatus(exc.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    detail = f"{request.method} {quoted(request.url.path)}: {exc.detail}"
    if _is_open_inference(request.url.path):
        body = open_inference.render_message(detail)
        return Response(body, exc.status_code, exc.headers, media_type=open_inference.MEDIA_TYPE)
    ticket: Ticket = request.scope[TICKET]
    told = problem.Problem(
        type=f"urn:zero-to-one:problem:{code}",
        title=phrase,
        status=exc.status_code,
        detail=detail,
        code=code,
        request_id=ticket.request_id.decode("ascii"),
    )
    return Response(
        told.model_dump_json(exclude_none=True), exc.status_code, exc.headers, media_type=problem.MEDIA_TYPE
    )


def _error_response(error: Exception, path: str, ticket: Ticket) -> Response:
    render = open_inference.render if _is_open_inference(path) else problem.render
    status, headers, body = render(error, ticket.request_id)
    response = Response(body, status)
    response.raw_headers = headers
    return response


def _is_open_inference(path: str) -> bool:
    """Tell whether a path is one of the Open Inference Protocol, which has a form of its own for errors."""
    return path == "/v2" or path.startswith("/v2/")
