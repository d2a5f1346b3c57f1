"""A few files to a model: over HTTP to a running service, or without one to the bundle itself."""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from app.access.caller import Caller, help_with, why_untrusted
from app.bundle.loader import BundleRef
from app.errors import RequestError
from app.predict import model as models
from app.predict.errors import BadUse, Stopped
from app.predict.questions import JSON, Body, Taken
from app.settings import Settings
from app.tasks import body_types
from app.tasks.decoding.strict_json import parse_json

_MOST_QUOTED = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the document, and its bytes as they came."""

    document: Mapping[str, Any]
    data: bytes


class Asked(Protocol):
    """Who answers."""

    def taken(self) -> Taken:
        """Return what the model takes.

        Raises:
            Stopped: Nobody answers, or there is no such model.
        """
        ...

    def ask(self, body: Body) -> Answer:
        """Return the answer to a body.

        Raises:
            Stopped: There is none; the message quotes what was said.
        """
        ...


class Remote:
    """A running service.

    Args:
        url: Of the service.
        name: Of the model.
        version: Of the model; None for the one that the service takes.
        query: Options of the task.
        caller: Who asks.
        timeout_s: Of each request.

    Raises:
        BadUse: It is no URL.
        SettingsError: The caller trusts a file that holds no certificates.
    """

    def __init__(
        self, url: str, name: str, version: str | None, query: Mapping[str, str], caller: Caller, *, timeout_s: float
    ) -> None:
        self._parts = _parse(url)
        self._tls = caller.tls() if self._parts.scheme == "https" else None
        self._headers = caller.headers
        self._name = quote(name, safe="")
        asked = {**query, **({} if version is None else {"version": version})}
        self._path = f"/predict/{self._name}" + (f"?{urlencode(asked)}" if asked else "")
        self._timeout_s = timeout_s

    def taken(self) -> Taken:
        """Ask for the model's card; see :class:`Asked`."""
        card = self._expect_200(*self._request("GET", f"/models/{self._name}", None)).document
        schema = card.get("request_schema")
        if schema is None:
            raise Stopped(f"the service cannot answer: {card.get('reason') or card.get('state')}")
        try:
            return Taken.of_schema(card["media_types"], schema)
        except (KeyError, TypeError, AttributeError) as exc:
            raise self._stranger() from exc

    def ask(self, body: Body) -> Answer:
        """Ask; see :class:`Asked`."""
        answer = self._expect_200(*self._request("POST", self._path, body))
        if not isinstance(answer.document.get("predictions"), list):
            raise self._stranger()
        return answer

    def _stranger(self) -> Stopped:
        return Stopped(f"{self._parts.netloc} answers as no service of this kind does; name another with --url")

    def _request(self, method: str, path: str, body: Body | None) -> tuple[int, bytes]:
        host, port = self._parts.hostname or "", self._parts.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        )
        headers = self._headers | ({} if body is None else {"Content-Type": body.media_type})
        try:
            connection.request(
                method, self._parts.path.rstrip("/") + path, None if body is None else body.data, headers
            )
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as exc:  # the last of a host that is no name
            if (why := why_untrusted(exc)) is not None:
                raise Stopped(f"{self._parts.netloc} is not asked: {why}") from exc
            raise Stopped(
                f"no service answers on {self._parts.netloc}: {str(exc) or type(exc).__name__}; start one with "
                "`python -m app serve`, name another with --url, or do without one: --local"
            ) from exc
        finally:
            connection.close()

    def _expect_200(self, status: int, data: bytes) -> Answer:
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if status == 200 and isinstance(document, dict):
            return Answer(document, data)
        said = document.get("detail") if isinstance(document, dict) else None
        told = said or data[:_MOST_QUOTED].decode(errors="replace")
        raise Stopped(f"refused ({status}): {told}{help_with(status)}")


class Local:
    """The bundle itself, in this process.

    Args:
        ref: Which.
        settings: Of the environment.
        query: Options of the task.
        threads: None for one for each core.

    Raises:
        BundleError: It cannot be loaded, or is not proven.
        BadUse: The task knows no such option.
    """

    def __init__(
        self, ref: BundleRef, settings: Settings, query: Mapping[str, str], *, threads: int | None
    ) -> None:  # fmt: skip
        self._model = models.load(ref, settings, threads=threads or 1, max_instances=settings.max_instances)
        try:
            self._options = self._model.task.parse_options(query)
        except RequestError as exc:
            raise BadUse(str(exc)) from exc

    def taken(self) -> Taken:
        """Read the type of the task's requests; see :class:`Asked`."""
        task = self._model.task
        return Taken.of_schema(body_types(task), task.request_model.model_json_schema())

    def ask(self, body: Body) -> Answer:
        """Answer in batches as large as the model takes; see :class:`Asked`."""
        model, runner = self._model, self._model.runners[0]
        try:
            tensors = (
                runner.task.decode_json(parse_json(body.data, runner.task.json_limits))
                if body.media_type == JSON
                else runner.task.decode_file(body.data)
            )
        except RequestError as exc:
            raise Stopped(f"refused: {exc}") from exc
        predictions = models.answer(model, tensors, self._options)
        manifest = model.manifest
        document = {"model": manifest.name, "version": str(manifest.version), "predictions": predictions}
        return Answer(document, json.dumps(document, separators=(",", ":")).encode())


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise BadUse(f"{url!r} is no URL: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BadUse(f"{url!r} is no URL of HTTP; expected http://host:port")
    return parts


def readable(name: str, predictions: Sequence[Mapping[str, Any]], *, most: int) -> str:
    """Return predictions for people: label and probability first, the most probable labels below."""
    lines: list[str] = []
    for index, prediction in enumerate(predictions):
        title = name if len(predictions) == 1 else f"{name} [{index}]"
        if "label" in prediction:
            lines.append(f"{title}: {prediction['label']} ({prediction['probability']:.4f})")
            named = sorted(prediction.get("probabilities", {}).items(), key=lambda item: -item[1])[:most]
            width = max((len(label) for label, _ in named), default=0)
            lines += [f"  {label:<{width}}  {probability:.4f}" for label, probability in named]
        else:
            lines.append(f"{title}:")
            lines += [f"  {member}: {_short(value)}" for member, value in prediction.items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
