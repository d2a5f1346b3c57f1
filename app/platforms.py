"""What platforms tell a container by themselves: names without our prefix, folders of models, paths of their own.

Sources: "Use Your Own Inference Code with Hosting Services" (Amazon SageMaker AI), "Custom container requirements for
inference" (Vertex AI), "Use a custom container to deploy a model to an online endpoint" (Azure Machine Learning),
"Storage" (KServe), "Container runtime contract" (Cloud Run), "Manage environment variables" (Azure Container Apps).
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

# the name of a variable and the setting that it is; where several are there, the last one holds: what one platform
# alone sets says more than what many do. A name with our prefix wins over all of them.
NAMES: tuple[tuple[str, str], ...] = (
    ("MODELS_DIR", "models_dir"),
    ("WORKERS", "workers"),
    ("PORT", "port"),
    ("CONTAINER_APP_PORT", "port"),
    ("SAGEMAKER_BIND_TO_PORT", "port"),
    ("AIP_HTTP_PORT", "port"),
    ("AIP_HEALTH_ROUTE", "health_route"),
    ("AIP_PREDICT_ROUTE", "predict_route"),
)

# where SageMaker and KServe put the files of a model before they start its container
MODEL_PLACES = (Path("/opt/ml/model"), Path("/mnt/models"))
# Azure Machine Learning says where; the folder that was registered lies below
MODEL_PLACE_NAME = "AZUREML_MODEL_DIR"
_BUNDLES = "*/[0-9]*/manifest.json"

# what a URL's path may be made of (RFC 3986), without what has to be escaped and what a route's pattern is written with
ROUTE_PATTERN = r"^/[A-Za-z0-9._~!$&'()*+,;=:@/-]{0,511}$"
_NAME = r"[a-z0-9][a-z0-9_-]*"
# doors of ours that a platform may be pointed at: they answer as it expects
READY_DOORS = re.compile(rf"/readyz|/ping|/v1/models/{_NAME}|/v2/health/ready|/v2/models/{_NAME}(/versions/\d+)?/ready")
PREDICTION_DOORS = re.compile(
    rf"/predict(/{_NAME})?|/invocations|/score|/v1/models/{_NAME}:predict|/models/{_NAME}/invoke"
)
# the beginnings of all paths that are ours
_OURS = (
    "/admin", "/docs", "/invocations", "/livez", "/metrics", "/models", "/openapi.json", "/ping", "/predict", "/readyz",
    "/redoc", "/score", "/startupz", "/v1/models", "/v2",
)  # fmt: skip


def named(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the name of the variable that holds, by setting."""
    return {field: name for name, field in NAMES if name in environ}


def models_place(environ: Mapping[str, str]) -> Path | None:
    """Return the first folder with bundles in it, of those where platforms put models; None where there is none."""
    return next((place for place in _places(environ) if _holds_bundles(place)), None)


def is_ours(route: str) -> bool:
    """Tell whether a path is one of the service's own, or lies below one."""
    return route == "/" or any(route == own or route.startswith((f"{own}/", f"{own}:")) for own in _OURS)


def _places(environ: Mapping[str, str]) -> Iterator[Path]:
    if told := environ.get(MODEL_PLACE_NAME):
        yield Path(told)
        with contextlib.suppress(OSError):  # no folder, or none that may be read: then the bundles are not there
            yield from sorted(path for path in Path(told).iterdir() if path.is_dir())
    yield from MODEL_PLACES


def _holds_bundles(place: Path) -> bool:
    try:
        return next(place.glob(_BUNDLES), None) is not None
    except OSError:
        return False
