"""One text in, one label out."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest, TextClassification, TextInput
from app.errors import BundleError, Fault, InvalidInput, Limit, TooManyInstances
from app.preprocess.text import TextPreparation, TextRefused, TokenizerRefused
from app.tasks import Limits, NaturalInput
from app.tasks.decoding.fast_json import FastDecoder
from app.tasks.decoding.named import input_pointer
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.shared.bodies import read_instances, request_model
from app.tasks.shared.labels import LabelAnswers
from app.tasks.shared.ragged import expect_ragged_input, pad, ragged_rows
from app.tensors import Tensors

INPUT, NATURAL_INPUT = "tokens", "text"
# a body of this many bytes is tokenized on the event loop, where that takes 2 ms at most; a longer one
# on a thread, and so is one beyond ASCII: some characters stand for twenty once they are normalized
MAX_BYTES_ON_LOOP = 4096
# of all texts of one request together, after each is cut: a few seconds of work where they are as costly as can be
MAX_CHARS_TOGETHER = 2**18


def max_chars_together(spec: TextInput) -> int:
    """Return the most characters that are read of all texts of one request."""
    return max(MAX_CHARS_TOGETHER, spec.max_chars)


class TextClassificationTask(LabelAnswers):
    """Texts to the padded ``tokens``, int64 of shape (B, T), and ``lengths``; see :class:`app.tasks.Task`.

    Args:
        manifest: Of the model.
        settings: Its task.
        limits: What one request may hold.
        preparation: From a text to its tokens.

    Raises:
        BundleError: The manifest has other tensors.
    """

    media_types: tuple[str, ...] = ("text/plain",)

    def __init__(
        self, manifest: Manifest, settings: TextClassification, limits: Limits, preparation: TextPreparation
    ) -> None:
        super().__init__(manifest, settings.labels)
        expect_ragged_input(manifest, INPUT, "int64")
        self._spec = settings.text
        self._limits = limits
        self._preparation = preparation
        self._fast = FastDecoder(manifest.name, max_instances=limits.max_instances)
        instances = limits.max_instances
        self.json_limits = JsonLimits(arrays=1, objects=1 + instances, members=2 + instances, values=1 + instances)
        self.raw = RawRows(
            next(each for each in manifest.inputs if each.name == INPUT),
            low=0,
            high=preparation.vocab_size - 1,
            lengths=range(1, settings.text.max_tokens + 1),
            has_lengths=True,
            max_rows=1,
        )
        self.named = ragged_rows(
            manifest,
            low=0,
            high=preparation.vocab_size - 1,
            lengths=range(1, settings.text.max_tokens + 1),
            limits=limits,
        )
        self.natural: NaturalInput | None = NaturalInput(
            name=NATURAL_INPUT, description=f"any text, UTF-8; {self.conversion()}", decode=self._decode_texts
        )
        text = Annotated[str, Field(min_length=1, description=f"any text; {self.conversion()}")]
        self.request_model = request_model(manifest, limits, text=(text, ...))

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Read short texts; see :class:`app.tasks.Task`."""
        if len(body) > MAX_BYTES_ON_LOOP:
            return None
        texts = self._fast.texts(body, "text")
        if texts is None or not all(text.isascii() for text in texts):
            return None
        try:
            return self._tensors(texts)
        except InvalidInput:
            return None

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        instances = read_instances(self.request_model, document, self._limits)
        texts = [instance.text for instance in instances]
        self._expect_affordable(texts, at="#/instances")
        return self._tensors(texts)

    def decode_file(self, data: bytes) -> Tensors:
        """Read one text, UTF-8; see :class:`app.tasks.Task`."""
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            message = f"the text is not UTF-8: {exc.reason} at byte {exc.start}"
            raise InvalidInput(Fault(pointer="#", code="not_utf8", message=message)) from exc
        if not text:
            raise InvalidInput(Fault(pointer="#", code="string_too_short", message="the text is empty"))
        return self._tensors([text], at="#")

    def _decode_texts(self, values: Sequence[bytes]) -> Tensors:
        place = input_pointer(NATURAL_INPUT)
        if len(values) > self._limits.max_instances:
            raise TooManyInstances(len(values), self._limits.max_instances)
        texts = []
        for index, value in enumerate(values):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError as exc:
                message = f"element {index} is not UTF-8: {exc.reason} at byte {exc.start}"
                raise InvalidInput(Fault(pointer=place, code="not_utf8", message=message)) from exc
            if not value:
                message = f"element {index} is empty"
                raise InvalidInput(Fault(pointer=place, code="string_too_short", message=message))
        self._expect_affordable(texts, at=place)
        return self._tensors(texts, at=f"{place}/{{index}}")

    def _expect_affordable(self, texts: Sequence[str], *, at: str) -> None:
        most = max_chars_together(self._spec)
        if (count := sum(min(len(text), self._spec.max_chars) for text in texts)) > most:
            message = (
                f"the texts of one request may have {most} characters together, not {count}; send several requests"
            )
            limit = Limit("max_request_chars", most)
            raise InvalidInput(Fault(pointer=at, code="too_many_characters", message=message, limit=limit))

    def conversion(self) -> str:
        """Say where texts are cut; see :class:`app.tasks.Task`."""
        return f"what follows {self._spec.max_chars} characters or {self._spec.max_tokens} tokens is cut off"

    def example(self) -> dict[str, Any]:
        """Return a request with a short text; see :class:`app.tasks.Task`."""
        return {"instances": [{"text": "Hello, this is a text to try the model with."}]}

    def _tensors(self, texts: Sequence[str], *, at: str = "#/instances/{index}/text") -> Tensors:
        rows = []
        for index, text in enumerate(texts):
            try:
                rows.append(self._preparation.ids(text))
            except TextRefused as exc:
                pointer = at.format(index=index)
                raise InvalidInput(Fault(pointer=pointer, code="untokenizable", message=str(exc))) from exc
        return pad(INPUT, rows)


def create(bundle: Bundle, limits: Limits) -> TextClassificationTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    settings = bundle.manifest.task
    assert isinstance(settings, TextClassification)
    text = settings.text
    try:
        preparation = TextPreparation(bundle.read(text.tokenizer), text.max_chars, text.max_tokens)
    except TokenizerRefused as exc:
        raise BundleError(f"{text.tokenizer.path}: {exc}") from exc
    return TextClassificationTask(bundle.manifest, settings, limits, preparation)
