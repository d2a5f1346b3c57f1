"""What was begun and what is asked for now: one goes on with the other only where both are the same."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.bundle.loader import MANIFEST_FILE, BundleRef
from app.predict import model as models
from app.predict import sources
from app.predict.errors import BadUse
from app.predict.journal import Journal
from app.predict.model import HowToRun
from app.predict.request import Paths, Request
from app.settings import Settings


def head_of(request: Request, settings: Settings, *, kind: str, out_kind: str) -> dict[str, Any]:
    """Return what the journal begins with: all that decides what the output is.

    Args:
        request: What is to be done.
        settings: Of the environment.
        kind: Format of the input.
        out_kind: Format of the output.

    Raises:
        BadUse: Input or manifest cannot be read.
    """
    return {
        "input": sources.identity(request.input, kind),
        "bundle": _bundle_identity(request.ref),
        "options": _options(request, settings, out_kind),
    }


def how_before(journal: Journal, head: Mapping[str, Any], paths: Paths, request: Request) -> HowToRun | None:
    """Return how it ran when it was interrupted; None where it is to be begun.

    Raises:
        BadUse: What was begun is something else.
    """
    if request.is_restarted or journal.head is None:
        if request.output.exists() and not request.is_forced:
            raise BadUse(f"{request.output} is there already; replace it with --force")
        return None
    for what, now in head.items():
        was = journal.head.get(what)
        if was != json.loads(json.dumps(now)):
            raise BadUse(
                f"{paths.journal} was begun with another {what} ({_difference(was, now)}); give the same command to go "
                "on with it, or begin anew with --restart"
            )
    is_whole = journal.last is not None and journal.last.is_whole
    if request.output.exists() and not request.is_forced and not is_whole:
        raise BadUse(f"{request.output} is there already; replace it with --force")
    return models.parse_how(journal.head["how"])


def _difference(was: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(was, dict):
        return "its checkpoint is damaged"
    names = [name for name in now if was.get(name) != json.loads(json.dumps(now[name]))]
    return ", ".join(f"{name} was {was.get(name)}, is {now[name]}" for name in names)


def _bundle_identity(ref: BundleRef) -> dict[str, Any]:
    try:
        manifest = (ref.folder / MANIFEST_FILE).read_bytes()
    except OSError as exc:
        raise BadUse(f"{ref.folder / MANIFEST_FILE} cannot be read: {exc.strerror or exc}") from exc
    return {"name": ref.name, "version": ref.version, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}


def _options(request: Request, settings: Settings, out_kind: str) -> dict[str, Any]:
    """Return all that the output depends on, beside input and bundle."""
    return {
        "format": out_kind,
        "id": request.id_column,
        "keep": list(request.keep),
        "delimiter": request.delimiter,
        "query": dict(request.query),
        "probabilities": request.with_probabilities,
        "batch_rows": request.batch_rows,
        "max_row_bytes": settings.max_body_bytes,
        "max_image_pixels": settings.max_image_pixels,
    }
