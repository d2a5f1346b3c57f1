"""Amazon SageMaker AI: ``GET /ping``, ``POST /invocations`` and, of multi-model endpoints, ``POST /models/{m}/invoke``.

SageMaker strips most headers of a request and has no query, so the model, its version and options stand in
``X-Amzn-SageMaker-Custom-Attributes``: ``model=cnn,version=2,top_k=3``. What is none of ours is passed back as it came.
Sources: "Use Your Own Inference Code with Hosting Services", "Custom Containers Contract for Multi-Model Endpoints",
InvokeEndpoint in the API reference.
"""

from collections.abc import Iterable
from typing import Any

from app.protocols.manners import NOTHING, Asked, Headers, Manner
from app.serving.versions import Version

DOOR = "sagemaker"
PING, INVOCATIONS = "/ping", "/invocations"
ATTRIBUTES, TARGET = "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Target-Model"
# of the attributes, either way
MAX_ATTRIBUTES_BYTES = 1024

_ATTRIBUTES, _TARGET = ATTRIBUTES.lower().encode(), TARGET.lower().encode()
_ARCHIVE = ".tar.gz"


def invoke_path(model: str) -> str:
    """Return the path that asks a model of a multi-model endpoint."""
    return f"/models/{model}/invoke"


def with_attributes(documented: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that document a route, with the attributes of its answers."""
    about = f"`{ATTRIBUTES}` may hold `model=NAME`, `version=N` and options, with commas between."
    header = {ATTRIBUTES: {"schema": {"type": "string"}, "description": "Who answered, and what is passed back."}}
    responses = {
        status: response | {"headers": response.get("headers", {}) | header}
        for status, response in documented["responses"].items()
    }
    return documented | {"description": f"{documented['description']} {about}", "responses": responses}


class SageMaker(Manner):
    """SageMaker's.

    Args:
        options: The names of all options that the tasks of the service know.
    """

    door = DOOR
    is_platform = True
    naming = f"or say {ATTRIBUTES}: model=NAME"

    def __init__(self, options: Iterable[str]) -> None:
        self._known = {"model", "version", "tensor", *options}

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Asked:
        """Read the attributes, and the target of a multi-model endpoint; see :class:`app.protocols.manners.Manner`."""
        found = {name: value for name, value in headers if name in (_ATTRIBUTES, _TARGET)}
        if not found:
            return NOTHING
        options: dict[str, str] = {}
        others: list[bytes] = []
        for attribute in found.get(_ATTRIBUTES, b"").split(b","):
            name, is_pair, value = (part.decode("latin-1").strip() for part in attribute.partition(b"="))
            if is_pair and name in self._known:
                options[name] = value.replace(";", ",")  # a comma would end the attribute
            elif attribute.strip():
                others.append(attribute.strip())
        model = options.pop("model", None)
        target = found.get(_TARGET, b"").decode("latin-1").strip().lstrip("/").removesuffix(_ARCHIVE)
        return Asked(
            model=target or model, options=options, place=f"header:{ATTRIBUTES}", passed_back=b",".join(others)
        )

    def sign(self, asked: Asked, version: Version | None) -> Headers:
        """Say who answered, and pass back what was not for us; see :class:`app.protocols.manners.Manner`."""
        ours = [] if version is None else [f"model={version.ref.name},version={version.ref.version}".encode()]
        whole = b",".join([*ours, *([asked.passed_back] if asked.passed_back else [])])
        told = whole if len(whole) <= MAX_ATTRIBUTES_BYTES else asked.passed_back
        return [(_ATTRIBUTES, told)] if told else []
