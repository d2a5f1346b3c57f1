"""The routes of :class:`~app.protocols.open_inference.infer_door.InferDoor` in FastAPI, with its OpenAPI types."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.admission import TICKET
from app.protocols.asgi import as_response
from app.protocols.open_inference import errors
from app.protocols.open_inference.datatypes import BYTES, DTYPES
from app.protocols.open_inference.http_body import InferenceRequest, Parameters
from app.protocols.open_inference.infer_door import InferDoor
from app.protocols.open_inference.messages import MAX_TENSORS
from app.protocols.openapi import ANSWER_RECEIPTS, BINARY, TIMEOUT

_DATATYPES = [*DTYPES, BYTES]


class ResponseOutput(BaseModel):
    """One output: its data as JSON in one array, in C order, or as bytes behind the JSON."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: Annotated[str, Field(json_schema_extra={"enum": list(_DATATYPES)})]
    parameters: Parameters = Field(default={}, description="`binary_data_size` where the data are bytes.")
    data: list[bool | int | float | str] | None = None


class InferenceResponse(BaseModel):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="That of the request, where it had one.")
    outputs: list[ResponseOutput]


def router(door: InferDoor) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["open inference"])
    documented = _documented()

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        return as_response(
            await door.answer(request.scope[TICKET], model, version, request.scope, request.receive)
        )  # fmt: skip

    async def infer_default(request: Request, model: str) -> Response:
        return await infer(request, model)

    async def infer_version(request: Request, model: str, version: str) -> Response:
        return await infer(request, model, version)

    routes.add_api_route("/v2/models/{model}/infer", infer_default, methods=["POST"], **documented)
    routes.add_api_route("/v2/models/{model}/versions/{version}/infer", infer_version, methods=["POST"], **documented)
    return routes


def _documented() -> dict[str, Any]:
    """Return the arguments that document a route."""
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Bytes of the JSON at the beginning of the body, where the bytes of tensors follow it.",
    }
    schema = InferenceRequest.model_json_schema()
    definitions = schema.pop("$defs")
    tensor = definitions["RequestInput"]
    tensor["properties"]["datatype"]["enum"] = _DATATYPES
    tensor["properties"]["shape"]["items"]["minimum"] = 1
    schema["properties"]["inputs"]["items"] = tensor
    asked, null = schema["properties"]["outputs"]["anyOf"]
    schema["properties"]["outputs"]["anyOf"] = [
        asked | {"items": definitions["RequestOutput"], "maxItems": MAX_TENSORS}, null
    ]  # fmt: skip
    return {
        "summary": "Infer with named tensors",
        "description": "The Open Inference Protocol, version 2, with the extensions for binary tensor data and for "
        "classification.",
        "response_class": Response,
        "responses": {
            200: {
                "model": InferenceResponse,
                "description": "The outputs; behind the JSON the bytes of those that were asked for as such.",
                "content": {"application/octet-stream": {"schema": BINARY}},
                "headers": ANSWER_RECEIPTS
                | {
                    "Inference-Header-Content-Length": {
                        "schema": {"type": "integer", "minimum": 1},
                        "description": "Bytes of the JSON at the beginning of the body, where others follow it.",
                    }
                },
            },
            **errors.responses(400, 404, 413, 415, 503, 504),
        },
        "openapi_extra": {
            "parameters": [length, TIMEOUT],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema}, "application/octet-stream": {"schema": BINARY}},
            },
        },
    }
