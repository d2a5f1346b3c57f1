import inspect
import re

import pytest

from app import errors
from app.errors import Fault, InvalidInput, Overloaded, ServingError


def tree(root: type[ServingError]) -> list[type[ServingError]]:
    found = [root]
    for child in root.__subclasses__():
        # a test elsewhere may have classes of its own
        found += tree(child) if child.__module__ == errors.__name__ else []
    return found


EVERY = tree(ServingError)


def drawn() -> dict[str, str | None]:
    """Return each class of the docstring's drawing, with the one above it."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^ {4}((?:[│ ] {3})*)([├└]── )?([A-Z]\w+)", line):
            indent, branch, name = found.groups()
            depth = len(indent) // 4 + (branch is not None)
            del path[depth:]
            parents[name] = path[-1] if path else None
            path.append(name)
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {cls.__name__: cls.__base__.__name__ for cls in EVERY if cls is not ServingError and cls.__base__}
    assert drawn() == {"ServingError": None} | real
    assert len(EVERY) > 15


def test_every_exception_of_the_module_is_in_the_tree() -> None:
    exceptions = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BaseException)}
    assert exceptions == set(EVERY)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_class_says_its_own_code_title_and_meaning(cls: type[ServingError]) -> None:
    assert {"code", "title", "__doc__"} <= vars(cls).keys()
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code)
    assert cls.title[0].isupper()
    assert cls.__doc__


@pytest.mark.parametrize("attribute", ["code", "title"])
def test_no_two_classes_share_a_code_or_title(attribute: str) -> None:
    assert len({getattr(cls, attribute) for cls in EVERY}) == len(EVERY)


def test_an_invalid_input_tells_three_faults_and_counts_the_others() -> None:
    faults = [Fault(pointer=f"#/{number}", code="wrong", message="is wrong") for number in range(4)]
    error = InvalidInput(*faults, more=7)
    assert error.faults == tuple(faults)
    assert str(error) == "#/0: is wrong; #/1: is wrong; #/2: is wrong (and 7 more)"
    assert str(InvalidInput(faults[0])) == "#/0: is wrong"


def test_an_error_tells_what_is_known_to_whoever_asked_for_something_else() -> None:
    assert str(errors.UnknownModel("cnn", ("a", "b"))) == "no model named 'cnn'; this service has: a, b"
    assert str(errors.UnknownModel("cnn", ())) == "no model named 'cnn'; this service has: none"
    assert str(errors.UnknownVersion("cnn", "3", ("1", "2"))) == "model 'cnn' has no version '3'; it has: 1, 2"
    assert "1024 bytes" in str(errors.BodyTooLarge(1024))
    assert "11 instances in one request, at most 10" in str(errors.TooManyInstances(11, 10))


def test_an_error_carries_what_its_door_needs() -> None:
    assert Overloaded("full", retry_after_s=1.5).retry_after_s == 1.5
    assert errors.ModelRejectedInput("no", rows=(1, 2)).rows == (1, 2)
