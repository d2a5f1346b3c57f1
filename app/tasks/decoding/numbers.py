"""One number of a body: what is none, or lies outside its range, and how the fault is named."""

from typing import Any

import numpy as np
from pydantic_core import PydanticCustomError

from app.errors import Limit
from app.tensors import Array

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def number_fault(number: object, low: float, high: float) -> PydanticCustomError | None:
    """Return what is wrong with a value that should be a number from ``low`` to ``high``; None where nothing is."""
    if type(number) is not int and type(number) is not float:  # a bool is an int to isinstance()
        return custom_fault("wrong_type", f"expected a number, found {kind_of(number)}")
    if number - number != 0:  # NaN and the infinities, 1e400 among them
        return custom_fault("not_finite", f"expected a number from {low:g} to {high:g}, found {number}")
    if not low <= number <= high:
        shown = str(number)[:24]  # of an integer's thousands of digits, the first
        return custom_fault("out_of_range", f"expected a number from {low:g} to {high:g}, found {shown}")
    return None


def float_array(numbers: Any, dtype: str) -> Array:
    """Return nested lists of checked numbers as an array; by float64, so that an integer is rounded as a float is.

    One part of the first axis at a time, since NumPy holds the interpreter while it reads a list.
    """
    if not isinstance(numbers, list) or not isinstance(numbers[0], list):
        return np.array(numbers, np.float64).astype(dtype)
    return np.array([np.array(part, np.float64).astype(dtype) for part in numbers])


def custom_fault(code: str, message: str, limit: Limit | None = None) -> PydanticCustomError:
    """Return an error of a stable code and a message for people, and the limit that was met where there is one."""
    # the message as a value, since braces in a template would be taken for fields
    return PydanticCustomError(code, "{message}", {"message": message, "limit": limit})


def kind_of(value: object) -> str:
    """Say what a value of JSON is, with its article."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)
