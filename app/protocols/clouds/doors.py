"""All doors of platforms together: which paths there are, how each is documented, and what else has to be answered."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from app.bundle.manifest import Manifest
from app.platforms import is_ours
from app.protocols import health
from app.protocols.clouds import azureml, documents, kserve, sagemaker, vertex
from app.protocols.health import Readiness
from app.protocols.manners import Manner, Way
from app.protocols.open_inference import errors as open_inference
from app.serving.catalog import Catalog
from app.settings import Settings
from app.tasks import Task

TAGS = (sagemaker.DOOR, vertex.DOOR, kserve.DOOR, azureml.DOOR)


class Door(NamedTuple):
    """One path that predicts.

    Attributes:
        path: Of the request.
        way: Where it leads.
        documented: The arguments that document its route.
    """

    path: str
    way: Way
    documented: dict[str, Any]


def prediction_doors(
    manifests: Mapping[str, Manifest], tasks: Mapping[str, Task], settings: Settings
) -> Iterator[Door]:
    """Yield every path on which platforms ask for predictions.

    Args:
        manifests: By name of the model.
        tasks: Likewise.
        settings: Of the service.
    """
    default = settings.default_model or (next(iter(tasks)) if len(tasks) == 1 else None)

    def of_any(path: str, manner: Manner, platform: str) -> Door:
        return Door(path, Way(None, manner), documents.of_any(manner.door, platform, tasks, default))

    aws = sagemaker.SageMaker({name for task in tasks.values() for name in task.options_model.model_fields})
    invocations = of_any(sagemaker.INVOCATIONS, aws, "SageMaker")
    yield invocations._replace(documented=sagemaker.with_attributes(invocations.documented))
    yield of_any(azureml.SCORE, azureml.AzureML(), "Azure Machine Learning")
    if settings.predict_route is not None and not is_ours(settings.predict_route):
        yield of_any(settings.predict_route, vertex.Vertex(), "Vertex AI")
    first_protocol = kserve.KServe()
    for name, task in tasks.items():
        documented = documents.of_model(aws.door, "SageMaker", manifests[name], task)
        yield Door(sagemaker.invoke_path(name), Way(name, aws), sagemaker.with_attributes(documented))
        documented = documents.of_model(first_protocol.door, "KServe V1", manifests[name], task)
        ok = {200: documented["responses"][200]}
        documented["responses"] = ok | open_inference.responses(400, 404, 413, 415, 503, 504)
        yield Door(kserve.predict_path(name), Way(name, first_protocol), documented)


def of_unknown_models() -> dict[str, Manner]:
    """Return the paths with a model's name in them, as patterns: a name that nobody has is told in each manner."""
    return {sagemaker.invoke_path("{model}"): sagemaker.SageMaker(()), kserve.predict_path("{model}"): kserve.KServe()}


def ways(doors: Mapping[str, Way], settings: Settings) -> dict[str, Way]:
    """Return where each path leads, where ``ZTO_PREDICT_ROUTE`` may have one of the predict door's own answer so too.

    Args:
        doors: The ways of all paths that predict.
        settings: Of the service.
    """
    route = settings.predict_route
    way = doors.get(route) if route is not None else None
    if route is None or way is None or way.manner.is_platform:
        return dict(doors)
    return {**doors, route: Way(way.model, vertex.Vertex())}


def router(catalog: Catalog, settings: Settings, *, is_draining: health.IsDraining) -> APIRouter:
    """Return the routes that predict nothing."""
    routes = APIRouter()

    async def ready(response: Response) -> Readiness:
        return health.answer_ready(catalog, response, is_draining=is_draining())

    route = settings.health_route
    paths = {sagemaker.PING: (sagemaker.DOOR, "SageMaker")}
    if route is not None and not is_ours(route):
        paths[route] = (vertex.DOOR, "as the settings ask")
    for path, (door, platform) in paths.items():
        summary = f"Is every required model ready? ({platform})"
        routes.add_api_route(
            path, ready, methods=["GET"], summary=summary, tags=[door], responses=health.ready_responses()
        )
        routes.add_api_route(path, ready, methods=["HEAD"], include_in_schema=False)
    routes.include_router(kserve.router(catalog))
    return routes
