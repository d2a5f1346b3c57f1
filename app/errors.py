"""Everything that can go wrong on the way of a request, in the words of the domain.

::

    ServingError
    ├── BundleError            the bundle on disk is not what its manifest says
    │   ├── BundleNotProven    its golden rows do not come out as the trainer measured
    │   ├── BundleNotSigned    nobody whose key counts has signed it as it lies there
    │   └── BackendUnavailable the runtime that serves it is not installed, or not allowed
    ├── SettingsError          the environment asks for something impossible
    ├── RequestError           the caller's request
    │   ├── MalformedBody      not JSON, or not a body of this media type
    │   ├── InvalidInput       well-formed, but its values are not what the model takes
    │   ├── BodyTooLarge       more bytes than the service takes
    │   ├── TooManyInstances   more instances than one request may hold
    │   ├── TooManyValues      more arrays, objects or values than any good request holds
    │   ├── UnsupportedMedia   a media type that this door does not read
    │   │   └── UnsupportedEncoding a coding that is not read, or more than one
    │   ├── WrongKey           it needs a key, and has none that is good
    │   ├── NotAllowed         its key is not good for this, or nobody's is, as the service is set up
    │   ├── RateLimited        its key or address has asked more often than it may
    │   ├── UnknownModel       no model of that name
    │   ├── UnknownVersion     the model has no such version
    │   ├── NotLoaded          a model that was asked to be loaded has no version that could be
    │   ├── NothingToRollBack  no policy of the model came before this one
    │   ├── NotPromotable      a shadow that was asked to be promoted has not earned it
    │   └── ClientGone         the caller hung up before the whole body came
    └── Unanswered             the service's own side
        ├── Overloaded         the queue is full, or the answer would come too late
        ├── ModelNotReady      still loading, failed, or out of rotation
        ├── DeadlineExceeded   no answer in the time that the caller gave
        ├── ModelRejectedInput the model fails on this one item, and is otherwise well
        └── BackendFailed      the runtime raised, or returned something else than it promised

The classes know nothing of HTTP; the doors look the status up in one table.
"""

from dataclasses import dataclass
from typing import ClassVar

MAX_QUOTED = 128


def quoted(text: str) -> str:
    """Cut what an error quotes of a request: an answer is short, however long the question was."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def code_of(error: BaseException) -> str:
    """Return the stable code of an error; of one that is not ours, its class's name."""
    return str(getattr(error, "code", type(error).__name__))


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a request ran into.

    Attributes:
        name: As the card of a model names it among its ``limits``; of a member of one of them, behind a dot.
        value: What it is.
    """

    name: str
    value: int | float | str

    def beside(self, text: str) -> str:
        """Return a sentence that names the limit too, for where there is room for a sentence only."""
        return f"{text} (limit {self.name}: {self.value})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a request.

    Attributes:
        pointer: Where: a JSON pointer as a URI fragment (RFC 6901, section 6), ``#`` for the whole body,
            or the name of a query parameter, header, input or output behind ``query:``, ``header:``, ``input:`` or
            ``output:``.
        code: Stable, for programs: ``wrong_shape``, ``out_of_range``, ...
        message: For people: what was found, and what is expected.
        limit: The bound that was met, where it is one of those on the card.
    """

    pointer: str
    code: str
    message: str
    limit: Limit | None = None


class ServingError(Exception):
    """Root of the tree. ``code`` is stable, for programs; ``str(error)`` is for people.

    Attributes:
        limit: The bound that the request ran into, where it is one of those on the card.
    """

    code: ClassVar[str] = "serving_error"
    title: ClassVar[str] = "Serving error"
    limit: Limit | None = None

    @property
    def told(self) -> str:
        """What is told where there is room for one sentence only."""
        text = str(self) or self.title
        return text if self.limit is None else self.limit.beside(text)


class BundleError(ServingError):
    """A bundle on disk is not what its manifest says."""

    code = "bad_bundle"
    title = "Bad bundle"


class BundleNotProven(BundleError):
    """The golden rows of a bundle do not come out as the trainer measured them."""

    code = "bundle_not_proven"
    title = "Bundle not proven"


class BundleNotSigned(BundleError):
    """A signature is asked for, and this bundle has none, or another key's, or its files are not those signed."""

    code = "bundle_not_signed"
    title = "Bundle not signed"


class BackendUnavailable(BundleError):
    """The runtime of a bundle is not installed, or not allowed; the message names the extra, or the setting."""

    code = "backend_unavailable"
    title = "Backend unavailable"


class SettingsError(ServingError):
    """The environment asks for something that cannot be; the service does not start."""

    code = "bad_settings"
    title = "Bad settings"


class RequestError(ServingError):
    """The caller's request is at fault."""

    code = "bad_request"
    title = "Bad request"


class MalformedBody(RequestError):
    """The body cannot be read as what its media type says."""

    code = "malformed_body"
    title = "Malformed body"


class InvalidInput(RequestError):
    """The request is well-formed, but its values are not what the model takes.

    Attributes:
        faults: One entry per fault; at least one.
    """

    code = "invalid_input"
    title = "Invalid input"

    def __init__(self, *faults: Fault, more: int = 0) -> None:
        self.faults = faults
        self.limit = next((fault.limit for fault in faults if fault.limit is not None), None)
        tail = f" (and {more} more)" if more else ""
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults[:3]) + tail)


class BodyTooLarge(RequestError):
    """The body has more bytes than the service takes."""

    code = "body_too_large"
    title = "Body too large"

    def __init__(self, limit_bytes: int, *, inflated: bool = False) -> None:
        found = "inflates to more" if inflated else "is larger"
        super().__init__(f"the body {found} than the {limit_bytes} bytes that this service takes")
        self.limit = Limit("max_body_bytes", limit_bytes)


class TooManyInstances(RequestError):
    """One request holds more instances than it may."""

    code = "too_many_instances"
    title = "Too many instances"

    def __init__(self, count: int, limit: int, *, place: str = "") -> None:
        told = f"{quoted(str(count))} instances in one request, at most {limit} are taken; send several requests"
        super().__init__(f"{place}: {told}" if place else told)
        self.limit = Limit("max_instances", limit)


class TooManyValues(RequestError):
    """The body holds more arrays, objects or values than any good one does; it is not even parsed."""

    code = "too_many_values"
    title = "Too many values"

    def __init__(self, kind: str, count: int, limit: Limit) -> None:
        super().__init__(f"the body holds about {count} {kind}, a good one at most {limit.value}")
        self.limit = limit


class UnsupportedMedia(RequestError):
    """The door does not read this media type."""

    code = "unsupported_media_type"
    title = "Unsupported media type"


class UnsupportedEncoding(UnsupportedMedia):
    """The body is encoded as nothing that is read here, or more than once."""

    code = "unsupported_content_encoding"
    title = "Unsupported content encoding"


class WrongKey(RequestError):
    """The request needs a key, and has none, or none that is good."""

    code = "wrong_key"
    title = "Wrong key"


class NotAllowed(RequestError):
    """The key lacks the role for this, or nobody may ask it; the message names the role, or the setting."""

    code = "not_allowed"
    title = "Not allowed"


class RateLimited(RequestError):
    """The caller has asked more often than its limits allow.

    Attributes:
        retry_after_s: Seconds after which a request may be let in.
    """

    code = "rate_limited"
    title = "Rate limited"

    def __init__(self, limits: str, *, by: str, retry_after_s: float) -> None:
        super().__init__(f"more requests than this {by} may send: {limits}; come again in {retry_after_s:.3g} s")
        self.retry_after_s = retry_after_s
        self.limit = Limit("rate_limit", limits)


class UnknownModel(RequestError):
    """No model of that name is served."""

    code = "unknown_model"
    title = "Unknown model"

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no model named {quoted(model)!r}; this service has: {', '.join(known) or 'none'}")


class UnknownVersion(RequestError):
    """The model has no such version."""

    code = "unknown_version"
    title = "Unknown version"

    def __init__(self, model: str, version: str, known: tuple[str, ...]) -> None:
        super().__init__(f"model {model!r} has no version {quoted(version)!r}; it has: {', '.join(known)}")


class NotLoaded(RequestError):
    """A model was asked to be loaded, and has no version that could be; the message says why."""

    code = "not_loaded"
    title = "Not loaded"


class NothingToRollBack(RequestError):
    """The model has no policy before the one that it has."""

    code = "nothing_to_roll_back"
    title = "Nothing to roll back"


class NotPromotable(RequestError):
    """A shadow was asked to be promoted, and has not earned it; the message says the figures and what is missing."""

    code = "not_promotable"
    title = "Not promotable"


class ClientGone(RequestError):
    """The caller hung up before the whole request had come; nobody reads an answer."""

    code = "client_gone"
    title = "Client closed the request"


class Unanswered(ServingError):
    """The request was good, and the service has no answer."""

    code = "unanswered"
    title = "Unanswered"


class Overloaded(Unanswered):
    """The queue is full, or the answer would come after the deadline; refused at once, before it cost anything.

    Attributes:
        retry_after_s: Seconds after which there should be room and time.
    """

    code = "overloaded"
    title = "Overloaded"

    def __init__(self, message: str, *, retry_after_s: float, limit: Limit | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit


class ModelNotReady(Unanswered):
    """The model is still loading, failed its proof, or was taken out of rotation."""

    code = "model_not_ready"
    title = "Model not ready"


class DeadlineExceeded(Unanswered):
    """The request was not answered within its deadline."""

    code = "deadline_exceeded"
    title = "Deadline exceeded"


class ModelRejectedInput(Unanswered):
    """The model fails on single items while its golden rows still pass.

    Attributes:
        rows: The items of the request, counted from 0, that it fails on.
    """

    code = "model_rejected_input"
    title = "Model rejected the input"

    def __init__(self, message: str, *, rows: tuple[int, ...]) -> None:
        super().__init__(message)
        self.rows = rows


class BackendFailed(Unanswered):
    """The runtime raised, or returned something else than the manifest promises."""

    code = "backend_failed"
    title = "Backend failed"
