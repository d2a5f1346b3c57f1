"""All doors of the service, and what each of them has to know of every model. Models may come while it runs."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app import tasks
from app.admission import TICKET, Admission
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.errors import BundleError
from app.metrics import Metrics
from app.protocols import models, openapi
from app.protocols.answers import Answers
from app.protocols.asgi import as_response
from app.protocols.clouds import doors as clouds
from app.protocols.compression import Compression
from app.protocols.decoders import Decoders
from app.protocols.direct import DirectDoor
from app.protocols.manners import PREDICT, Way
from app.protocols.open_inference import infer_routes
from app.protocols.open_inference import routes as control_routes
from app.protocols.open_inference.infer_door import InferDoor, InferTarget
from app.protocols.open_inference.inference import Inference
from app.protocols.open_inference.model import InferModel
from app.protocols.predict import PredictDoor
from app.protocols.targets import predict_targets
from app.serving.catalog import Catalog
from app.serving.repository import Repository
from app.serving.service import Service
from app.settings import Settings
from app.tasks import Task

logger = logging.getLogger("app.main")


class Doors:
    """Opens the doors for models, at the start or later; see :class:`app.serving.swap.Doors`.

    Args:
        catalog: The models.
        settings: Of the service.
        admission: Stands in front of every door.
        figures: Told of every answer.
        decoders: Where what takes long is read and written.
        clock: Monotonic seconds.

    Attributes:
        direct: Takes plain predictions straight from their connections.
        predict: Takes all others.
        infer: The Open Inference Protocol's.
        inference: The data plane in the words of that protocol, for its other wires.
        repository: Loads and unloads models.
        compression: Encodes large answers where that is asked for.
        ways: Where the paths lead that predict, ahead of any route.
        infer_paths: The model that each path of the Open Inference Protocol asks, likewise.
        tasks: By name of the model.
        manifests: Likewise.
        edition: Rises whenever the routes are written anew.
        routes: What depends on the models: they tell OpenAPI the names of the models, and the types of each.
    """

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        admission: Admission,
        figures: Metrics,
        decoders: Decoders,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._admission = admission
        self._figures = figures
        self._clock = clock
        self._limits = tasks.Limits(
            max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels
        )  # fmt: skip
        self.tasks: dict[str, Task] = {}
        self.manifests: dict[str, Manifest] = {}
        self._answers: dict[str, Answers] = {}
        self._models: dict[str, InferModel] = {}
        self._infer_targets: dict[str, InferTarget] = {}
        self.ways: dict[str, Way] = {}
        self.infer_paths: dict[str, str] = {}
        self.routes = APIRouter()
        self.edition = 0
        self._is_open = False
        service = Service(catalog, clock=clock)
        self.predict = PredictDoor(
            service, self.tasks, self._answers, admission, figures, decoders=decoders,
            default_model=settings.default_model,
        )  # fmt: skip
        self.inference = Inference(service, self._models, figures, decoders=decoders)
        self.infer = InferDoor(
            service, self.inference, self._infer_targets, admission, figures, decoders=decoders
        )  # fmt: skip
        self.compression = Compression(settings.compress_from_bytes, decoders=decoders)
        self.direct = DirectDoor(service, {}, admission, figures, decoders=decoders, compression=self.compression)
        self.repository = Repository(catalog, settings, doors=self, check_contract=self.check_contract, metrics=figures)

    def open(self) -> None:
        """Open the doors for every model of the catalog; a version that does not fit its task has failed."""
        for version in self._catalog.versions():
            if version.bundle is None:
                continue
            try:
                admit = self.prepare(version.bundle)
            except Exception as exc:  # whatever it is, it is this version's alone
                if not isinstance(exc, BundleError):
                    logger.exception("%s: unexpected failure while its task was created", version.label)
                version.bundle = None
                version.fail(str(exc) or type(exc).__name__)
            else:
                self._catalog.models[version.ref.name].contract = version.bundle.manifest
                admit()
        self._route()
        self._is_open = True

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        """Make ready what the doors need for a model; see :class:`app.serving.swap.Doors`."""
        return partial(self._admit, bundle.manifest, tasks.create(bundle, self._limits))

    def close(self, name: str) -> None:
        """Close every door of a model; see :class:`app.serving.swap.Doors`."""
        by_name: tuple[dict[str, Any], ...] = (
            self.tasks, self.manifests, self._answers, self._models, self._infer_targets
        )  # fmt: skip
        for kept in by_name:
            kept.pop(name, None)
        infer_path = f"/v2/models/{name}/infer"
        self.infer_paths.pop(infer_path, None)
        for target in (infer_path, f"/predict/{name}"):
            self.direct.targets.pop(target.encode(), None)
        self._route()

    def check_contract(self, manifest: Manifest, golden: GoldenRows) -> None:
        """Hold a model's task against its golden rows; raises :class:`BundleError`."""
        tasks.check_contract(self.tasks[manifest.name], golden)

    def _admit(self, manifest: Manifest, task: Task) -> None:
        """Open every door for a model. Of one that is known, the task of its newest version counts."""
        name = manifest.name
        is_new = name not in self.tasks
        self.tasks[name], self.manifests[name], self._answers[name] = task, manifest, Answers(manifest, task)
        self._models[name] = InferModel(manifest, task)
        self._infer_targets[name] = InferTarget(self._models[name], task, self._figures)
        infer_path = f"/v2/models/{name}/infer"
        self.direct.targets |= predict_targets({name: task}, self._answers, self._figures)
        self.direct.targets[infer_path.encode()] = self._infer_targets[name]
        self.infer_paths[infer_path] = name
        if is_new and self._is_open:
            self._route()

    def _route(self) -> None:
        """Write the ways and the routes anew."""
        self.edition += 1
        self.routes.routes.clear()
        ways = {f"/predict/{name}": Way(name) for name in self.tasks} | {"/predict": Way(None)}
        for name, task in self.tasks.items():
            self._predict_on(f"/predict/{name}", **openapi.predict_route(self.manifests[name], task))
        self._predict_on("/predict", **openapi.named_predict_route(self.tasks, self._settings.default_model))
        for door in clouds.prediction_doors(self.manifests, self.tasks, self._settings):
            ways[door.path] = door.way
            self._predict_on(door.path, **door.documented)
        self.ways = clouds.ways(ways, self._settings)
        for path, manner in {"/predict/{model}": PREDICT, **clouds.of_unknown_models()}.items():
            way = partial(lambda manner, request: Way(request.path_params["model"], manner), manner)
            self.routes.add_api_route(path, self._answer(way), methods=["POST"], include_in_schema=False)
        self.routes.include_router(infer_routes.router(self.infer))
        self.routes.include_router(control_routes.router(
            self._catalog, self.tasks, self._settings, self._figures, self._admission, self.repository,
            clock=self._clock,
        ))  # fmt: skip
        self.routes.include_router(models.router(self._catalog, self.tasks, self._settings))

    def _predict_on(self, path: str, **documented: Any) -> None:
        self.routes.add_api_route(path, self._answer(lambda _: self.ways[path]), methods=["POST"], **documented)

    def _answer(self, way: Callable[[Request], Way]) -> Callable[[Request], Awaitable[Response]]:
        async def predict(request: Request) -> Response:
            return as_response(
                await self.predict.answer(request.scope[TICKET], way(request), request.scope, request.receive)
            )

        return predict
