"""What good clients ask, and how their answers are held against what is known to be right."""

import json
from collections.abc import Sequence

from benchmarks import pictures
from tests.drills.books import Books
from tests.drills.crowd import Question
from tests.support.bundles import predict

_VERSION = b"\r\nx-model-version: "
# a picture of a dummy bundle is of 2 x 3; single precision in the answers
_DUMMY_PICTURES = [[[1, 2, 3], [4, 5, 6]], [[9, 8, 7], [6, 5, 4]], [[0, 0, 0], [0, 0, 1]]]
_ATOL = 1e-6


def of_pictures(model: str = "cnn", count: int = 64) -> list[Question]:
    """Return requests with a picture each for a model of the repository, whose answers are only counted."""
    return [Question(data=data) for data in pictures.http_requests(f"/predict/{model}", pictures.bodies(count))]


def of_dummy(model: str = "dummy", labels: Sequence[str] = ("a", "b", "c")) -> list[Question]:
    """Return requests for a dummy bundle, whose numbers are worked out here once more."""
    import numpy as np

    found = []
    for picture in _DUMMY_PICTURES:
        (expected,) = predict(np.array([picture], np.float32), labels)
        (data,) = pictures.http_requests(
            f"/predict/{model}", [pictures.as_json({"instances": [{"image": picture}]})]
        )

        def check(books: Books, head: bytes, body: bytes, expected: dict[str, object] = expected) -> str:
            return _check(books, head, body, expected)

        found.append(Question(data=data, check=check))
    return found


def _check(books: Books, head: bytes, body: bytes, expected: dict[str, object]) -> str:
    document = json.loads(body)
    version = version_in(head)
    books.versions[version] += 1
    if document["version"] != version:
        return f"the head says version {version}, the body {document['version']}"
    (prediction,) = document["predictions"]
    if prediction["label"] != expected["label"]:
        return "another label"
    if abs(prediction["probability"] - expected["probability"]) > _ATOL:  # type: ignore[operator]
        return "another probability"
    return ""


def version_in(head: bytes) -> str:
    """Return the version that the head of an answer names."""
    return head.lower().partition(_VERSION)[2].partition(b"\r\n")[0].decode("latin-1")
