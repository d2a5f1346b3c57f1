"""Our own OpenAPI document, held against a running service by schemathesis: all that it allows and forbids is sent.

https://schemathesis.readthedocs.io/en/stable/ says what its phases and checks are.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis.engine
from hypothesis import strategies as st
from PIL import Image
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.generation.meta import TestPhase
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.schemas import BaseSchema

from app.bundle.golden import GoldenRows
from app.tensors import LENGTHS, take, trim

OCTETS = "application/octet-stream"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "positive_data_acceptance", "negative_data_rejection", "use_after_free",
    "ensure_resource_availability", "missing_required_header", "ignored_auth", "object_level_authorization",
    "unsupported_method", "allow_header_conformance",
)  # fmt: skip
INFER = ("POST /v2/models/{model}/infer", "POST /v2/models/{model}/versions/{version}/infer")
# the model stands in the body, or elsewhere
OF_ALL_MODELS = ("POST /predict", "POST /invocations", "POST /score")
V1 = "POST /v1/models/"
SEED = 5
# on a busy machine, what is to be answered within this may be late
IMPATIENT_MS = 10_000
_IS_GOOD = {"X-Request-ID": "a-good-request"}
_PROBLEM = ["application/problem+json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodRequest:
    """A request for inference that is to be answered.

    Attributes:
        model: Who is asked.
        version: In the path, where it has one.
        body: A JSON document, or bytes.
        headers: That belong to the body.
    """

    model: str
    version: str
    body: dict[str, Any] | bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """What came of the cases of a run.

    Attributes:
        answers: How many there were of each status, by whether the case was as documented.
        excused: The failures of checks that were excused, each by its check's title and the code of the problem.
        faults: All others.
    """

    answers: Counter[tuple[bool, int]] = field(default_factory=Counter)
    excused: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, recorder: ScenarioRecorder) -> None:
        """Count what was asked and answered, and keep what failed."""
        for case_id, interaction in recorder.interactions.items():
            case, response = recorder.cases[case_id].value, interaction.response
            if response is None:
                self.faults.append(f"{case.as_curl_command()}\ngot no answer")
                continue
            assert case.meta is not None
            self.answers[case.meta.generation.mode.is_positive, response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if (info := check.failure_info) is not None:
                    response = recorder.interactions[case_id].response
                    self.faults.append(
                        f"{check.name}: {info.failure.title}: {info.failure.message}\n{info.code_sample}\n"
                        f"got {None if response is None else response.text}"
                    )


def load(
    url: str, max_examples: int, *, only_links: bool = False, headers: Mapping[str, str] | None = None
) -> BaseSchema:
    """Load the document of a service, for runs that are always the same, with every check on.

    Args:
        url: Of the service.
        max_examples: Random cases of an operation, beside those that go through every keyword of its schemas.
        only_links: Whether to follow links from answers to other operations, instead of asking each by itself.
        headers: Of every request.
    """
    # what was answered, and that may be a deadline that passed, has no part in what is asked next
    alone = {"enabled": not only_links, "extra-data-sources": {"responses": False}}
    config = {
        "continue-on-failure": True,
        "seed": SEED,
        "headers": dict(headers or {}),
        "generation": {"deterministic": True, "no-shrink": True, "database": "none", "max-examples": max_examples},
        "phases": {
            "examples": alone,
            "coverage": alone,
            "fuzzing": alone | {"error-feedback": {"enabled": False}},
            "stateful": {"enabled": only_links, "max-steps": 4},
        },
        "checks": {name: {"enabled": True} for name in CHECKS}
        # that a body holds too much is a refusal as well, and so is that it comes without the key
        | {"negative_data_rejection": {"expected-statuses": ["400", "401", "404", "413", "415", "422"]}},
    }
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=SchemathesisConfig.from_dict(config))


def run(schema: BaseSchema, good: Sequence[GoodRequest] = ()) -> Run:
    """Send every case that schemathesis makes of the operations of a schema, and check each answer.

    Args:
        schema: From :func:`load`.
        good: Requests for inference, of which most cases of these operations are made: no schema says which tensors a
            model takes, and that their data are as many as their shapes ask for.
    """
    done = Run()

    @schema.hook
    def flatmap_case(context: HookContext, case: Case) -> st.SearchStrategy[Case]:
        return _good_cases(case, good) if case.operation.label in INFER else st.just(case)

    @schema.hook
    def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
        excuse = _excuse(failure, case, response)
        if excuse is not None:
            done.excused[failure.title, excuse] += 1
        return excuse is None

    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            done.add(event.recorder)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            done.faults.append(repr(event))
    return done


def register_formats(octets: Sequence[bytes] = ()) -> None:
    """Teach schemathesis what JSON Schema cannot say: pictures, texts, and rows of numbers as bytes."""
    text = _pictures().map(lambda data: base64.b64encode(data).decode())
    schemathesis.openapi.format("base64-picture", text | text.map("data:image/png;base64,{}".format))
    schemathesis.openapi.media_type("image/png", _pictures())
    schemathesis.openapi.media_type("image/jpeg", _pictures())
    # a byte order mark in front is none of the text
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1)
    schemathesis.openapi.media_type("text/plain", texts.map(str.encode))
    schemathesis.openapi.media_type(OCTETS, st.sampled_from(octets or [b""]))


def octets_of(golden: GoldenRows) -> list[bytes]:
    """Return the golden rows of a bundle as bodies of plain bytes; none where it has several inputs."""
    names = set(golden.inputs) - {LENGTHS}
    if len(names) != 1:
        return []
    (name,) = names
    rows = [trim(take(golden.inputs, row, row + 1)) for row in range(len(golden))]
    return [row[name].astype(row[name].dtype.newbyteorder("<")).tobytes() for row in rows]


def _pictures() -> st.SearchStrategy[bytes]:
    """Return pictures as files, of any small size and some modes."""

    def write(kind: str, mode: str, width: int, height: int, level: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("L", (width, height), level).convert(mode).save(buffer, kind)
        return buffer.getvalue()

    kinds = [("PNG", mode) for mode in ("1", "L", "LA", "RGB", "RGBA")] + [("JPEG", "L"), ("JPEG", "RGB")]
    size, level = st.integers(1, 40), st.integers(0, 255)
    return st.sampled_from(kinds).flatmap(lambda kind: st.builds(write, *map(st.just, kind), size, size, level))


def _good_cases(case: Case, good: Sequence[GoodRequest]) -> st.SearchStrategy[Case]:
    """Return a case as it is, or in its place good requests."""
    assert case.meta is not None
    if not good or not case.meta.generation.mode.is_positive:
        return st.just(case)

    def put(request: GoodRequest) -> Case:
        case.path_parameters = {
            name: {"model": request.model, "version": request.version}[name] for name in case.path_parameters
        }
        case.media_type = "application/json" if isinstance(request.body, dict) else OCTETS
        case.body = request.body
        case.headers = request.headers | _IS_GOOD
        return case

    return st.just(case) | st.sampled_from(good).map(put)


def _excuse(failure: Failure, case: Case, response: Response) -> str | None:
    """Return the code of a problem that is as it should be, although a check fails; None where there is no excuse."""
    # a caller may give a millisecond, and that is too short
    if response.status_code in (503, 504) and _is_impatient(case):
        return "deadline_exceeded"
    if not isinstance(failure, RejectedPositiveData):
        return None
    if case.operation.label in INFER:
        # which tensors are good depends on the model in the path, and data on their shape
        return None if case.headers.get("X-Request-ID") == _IS_GOOD["X-Request-ID"] else "invalid_input"
    if case.operation.label.startswith(V1):
        return _excuse_of_v1(case, response)
    if response.headers.get("content-type") != _PROBLEM:
        return None
    problem = response.json()
    code: str = problem["code"]
    faults = problem.get("errors", [])
    is_excused = (
        # which versions there are, and that weights are of labels and add up to one at most, no schema tells
        (case.operation.label.startswith("PUT /admin/") and (code == "not_loaded" or _are_of_the_whole(faults)))
        # finite numbers near the end of float32 overflow inside some models, which no bound tells beforehand
        or code == "model_rejected_input"
        # arrays of several rows must have the same shape, whichever that is
        or {fault["code"] for fault in faults} == {"different_shape"}
        # a list in an upload is as many fields as it has elements
        or (case.media_type == "multipart/form-data" and "Too many fields" in problem["detail"])
        # the shortest texts of the pattern of base64, which this phase goes through, are no pictures
        or (_is_of_coverage(case) and {fault["code"] for fault in faults} == {"not_an_image"})
        # which model a body without its name asks, and what the query may hold, is told by the other of the two
        or (case.operation.label in OF_ALL_MODELS and (_names_no_model(case) or _are_of_query(faults)))
    )
    return code if is_excused else None


def _excuse_of_v1(case: Case, response: Response) -> str | None:
    """Return what the predict door would have said, of errors that are a sentence; see :func:`_excuse`."""
    message: str = response.json()["error"]
    if message.startswith("the model fails on it"):
        return "model_rejected_input"
    if "must have the same shape" in message:
        return "different_shape"
    if case.media_type == "multipart/form-data" and "Too many fields" in message:
        return "malformed_body"
    return "not_an_image" if _is_of_coverage(case) and "no PNG or JPEG" in message else None


def _are_of_the_whole(faults: Sequence[Mapping[str, Any]]) -> bool:
    return bool(faults) and all(fault["pointer"] in ("#", "#/shadow") for fault in faults)


def _is_impatient(case: Case) -> bool:
    stated = str(case.headers.get("X-Request-Timeout-Ms", ""))
    return stated.isdigit() and int(stated) <= IMPATIENT_MS


def _is_of_coverage(case: Case) -> bool:
    return case.meta is not None and case.meta.phase.name is TestPhase.COVERAGE


def _names_no_model(case: Case) -> bool:
    """Tell whether the body does not say whom it is for: JSON that may, or bytes that the query hands to somebody."""
    if isinstance(case.body, dict):
        return "model" not in case.body
    return "model" in (case.query or {})


def _are_of_query(faults: Sequence[Mapping[str, str]]) -> bool:
    return bool(faults) and all(fault["pointer"].startswith("query:") for fault in faults)
