"""``create_app(settings)``: reads the manifests, mounts the doors; the lifespan loads and proves."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from app import __version__, logs, memory
from app.access.roles import Paths, Role
from app.access.tls import Certificate
from app.admission import TICKET, Admission, Ticket
from app.background import beside
from app.doors import Doors
from app.errors import NotAllowed, ServingError, code_of, quoted
from app.metrics import Metrics
from app.protocols import admin, guarded, health, metrics, openapi, page, problem
from app.protocols.clouds import documents
from app.protocols.clouds import doors as clouds
from app.protocols.decoders import Decoders
from app.protocols.direct import DirectDoor
from app.protocols.document import complete
from app.protocols.open_inference import errors as open_inference
from app.protocols.open_inference.inference import Inference
from app.serving.catalog import Catalog
from app.serving.health import Health
from app.serving.polling import Poller
from app.serving.repository import Repository
from app.serving.thrift import keep_lean
from app.settings import Settings
from app.tasks import Task
from app.watch import Watch


class ZeroToOne(FastAPI):
    """FastAPI with admission in front, and a way past its middleware for predictions.

    Attributes:
        admission: Lets every request in.
        catalog: The models.
        figures: What is counted.
        doors: Who answers.
        health: Looks after the models.
        paths: What role each path needs.
        admin_port: Where operators ask; None where that is on every port.
        certificate: Of TLS; None without.
    """

    admission: Admission
    catalog: Catalog
    figures: Metrics
    doors: Doors
    health: Health
    paths: Paths
    admin_port: int | None
    certificate: Certificate | None

    @property
    def direct(self) -> DirectDoor:
        """Takes plain predictions straight from their connections."""
        return self.doors.direct

    @property
    def inference(self) -> Inference:
        """The data plane in the words of the Open Inference Protocol."""
        return self.doors.inference

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by the name of their model; more may come."""
        return self.doors.tasks

    @property
    def repository(self) -> Repository:
        """Loads and unloads models."""
        return self.doors.repository

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, take it to its door, and tell of it when it is over."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and self.admission.origins and await self._answer_preflight(scope, send):
            return
        ticket: Ticket = scope.get(TICKET) or self._admit(scope)
        ticket.facts.method, ticket.facts.path = scope["method"], scope["path"]
        status = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        logs.REQUEST.set(ticket)
        try:
            await self._answer(ticket, scope, receive, send_noted)
        finally:
            self.admission.finish(ticket, status)

    async def _answer(self, ticket: Ticket, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request to its door."""
        send = self.doors.compression.sending(ticket, scope["method"], send)
        if scope["method"] == "POST":
            doors, path = self.doors, scope["path"]
            if (way := doors.ways.get(path)) is not None:
                await doors.predict.serve(ticket, way, scope, receive, send)
                return
            if (model := doors.infer_paths.get(path)) is not None:
                await doors.infer.serve(ticket, model, scope, receive, send)
                return

        async def send_with_receipts(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.admission.receipts(ticket)]
            await send(message)

        if ticket.refusal is not None:
            self.admission.count_refusal(ticket.refusal)
            ticket.facts.code = ticket.refusal.code
            await _error_response(ticket.refusal, scope["path"], ticket)(scope, receive, send_with_receipts)
            return
        scope[TICKET] = ticket
        await super().__call__(scope, receive, send_with_receipts)

    def _admit(self, scope: Scope) -> Ticket:
        """Admit a request to a path; where operators have a port of their own, to theirs there alone."""
        role = self.paths.role(scope["method"], scope["path"])
        server: tuple[str, int | None] | None = scope.get("server")
        is_admin_port = server is not None and server[1] == self.admin_port
        if self.admin_port is None or role is None or is_admin_port == (role is Role.ADMIN):
            return self.admission.admit(scope, role)
        ticket = self.admission.admit(scope, None)
        ticket.refusal = NotAllowed(
            "this port is for operators alone; ask on the service's own"
            if is_admin_port
            else f"operators have a port of their own: ask on port {self.admin_port} (ZTO_ADMIN_PORT)"
        )
        return ticket

    async def _answer_preflight(self, scope: Scope, send: Send) -> bool:
        """Answer a browser that asks whether a page may ask; return whether it did, and the page may."""
        if not any(name == b"access-control-request-method" for name, _ in scope["headers"]):
            return False
        ticket = self.admission.admit(scope, None)  # browsers send no key along
        allowed = self.admission.origins.preflight(ticket.origin)
        if allowed is None:
            return False
        headers = [*allowed, *self.admission.receipts(ticket)]
        await send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        ticket.facts.method, ticket.facts.path = scope["method"], scope["path"]
        self.admission.finish(ticket, HTTPStatus.NO_CONTENT)
        return True

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, the bodies of the prediction doors included."""
        doors = self.doors
        if self._documented != doors.edition:  # a model has come since
            self._documented, self.openapi_schema = doors.edition, None
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= openapi.components(doors.tasks) | documents.components(doors.manifests, doors.tasks)
            schemas |= open_inference.components()
            complete(document, self.catalog.models)
            admission = self.admission
            guarded.complete(document, self.paths, has_keys=admission.needs_keys, has_rates=admission.has_rates)
        return super().openapi()

    _documented: int = 0


def create_app(settings: Settings, *, clock: Callable[[], float] = time.monotonic, worker: int = 0) -> ZeroToOne:
    """Build the service. Nothing is loaded before its lifespan starts.

    Args:
        settings: Of the service.
        clock: Monotonic seconds.
        worker: The number of this process among those that serve.

    Raises:
        SettingsError: The models folder is missing or empty, or a model that the settings name is not in it.
    """
    figures = Metrics()
    telemetry = Watch(settings, figures, clock=clock, worker=worker)
    catalog = Catalog(settings, figures, trace_batches=telemetry.trace_batches, clock=clock)
    decoders = Decoders(clock=clock)
    admission = Admission(settings, figures, clock=clock, offload=decoders.run, observer=telemetry.observer)
    doors = Doors(catalog, settings, admission, figures, decoders, clock=clock)
    keeper = Health(catalog, settings, figures, check_contract=doors.check_contract, clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        telemetry.start()
        doors.repository.commands.begin_alone()
        work = [_load(catalog, doors, keeper), keeper.keep(), keep_lean(catalog.models)]
        if settings.poll_s is not None:
            work.append(Poller(settings.models_dir, doors.repository).run(settings.poll_s))
        async with beside(*work):
            yield
        catalog.close()
        decoders.close()
        await telemetry.stop()

    app = ZeroToOne(
        telemetry=telemetry.for_fastapi,
        title="Zero to One",
        summary="Proven models over HTTP",
        version=__version__,
        lifespan=lifespan,
        openapi_tags=[
            {"name": name}
            for name in ("predict", "open inference", "models", "health", "metrics", "admin", *clouds.TAGS)
        ],
    )  # fmt: skip
    app.admission, app.catalog, app.figures, app.doors, app.health = admission, catalog, figures, doors, keeper
    app.paths, app.admin_port = Paths(settings.health_route), settings.admin_port
    app.certificate = Certificate.of(settings)
    # first: FastAPI works out the routes of a router when a request comes by, and probes wait for no other door's
    app.include_router(health.router(catalog, keeper, is_draining=lambda: admission.is_draining))
    app.include_router(doors.routes)
    doors.open()  # once they are included, which would look at every route that is there already
    app.include_router(clouds.router(catalog, settings, is_draining=lambda: admission.is_draining))
    app.include_router(admin.router(catalog, doors.repository, admission, clock=clock))
    app.include_router(metrics.router(figures))
    app.include_router(page.router())
    telemetry.follow(app)
    app.add_exception_handler(ServingError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_error)
    return app


async def _load(catalog: Catalog, doors: Doors, keeper: Health) -> None:
    await catalog.load(doors.check_contract)
    keeper.begin()
    memory.settle()


async def _on_error(request: Request, exc: Exception) -> Response:
    request.scope[TICKET].facts.code = code_of(exc)
    return _error_response(exc, request.url.path, request.scope[TICKET])


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    """Write what Starlette's router refuses (404, 405) in the form of its door too."""
    assert isinstance(exc, HTTPException)
    phrase = HTTPStatus(exc.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    detail = f"{request.method} {quoted(request.url.path)}: {exc.detail}"
    if open_inference.is_form_of(request.url.path):
        body = open_inference.render_message(detail)
        return Response(body, exc.status_code, exc.headers, media_type=open_inference.MEDIA_TYPE)
    ticket: Ticket = request.scope[TICKET]
    ticket.facts.code = code
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
    render = open_inference.render if open_inference.is_form_of(path) else problem.render
    ticket.explain(error)
    status, headers, body = render(error, ticket.request_id)
    response = Response(body, status)
    response.raw_headers = headers
    return response
