"""What good clients ask."""

from benchmarks import pictures
from tests.drills.crowd import Question


def of_pictures(model: str = "cnn", count: int = 64) -> list[Question]:
    """Return requests with a picture each for a model of the repository, whose answers are only counted."""
    return [Question(data=data) for data in pictures.http_requests(f"/predict/{model}", pictures.bodies(count))]
