import base64
import io
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from app.preprocess.image import ImageConversion, ImageInput
from app.tasks.decoding.pictures import MAX_FAULTS_PER_PICTURE, PixelBudget, describe, picture_type

SPEC = ImageInput(height=2, width=3)
PICTURE = TypeAdapter(picture_type(SPEC))
MAX_PIXELS = 100
PIXELS_HW = [[0, 1, 2], [253, 254, 255]]
EXPECTED = "expected 2 rows of 3 numbers, or a string of base64"
RANGE = "expected a number from 0 to 255"


def as_base64(pixels_HW: Any = PIXELS_HW, fmt: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.array(pixels_HW, np.uint8)).save(buffer, fmt)
    return base64.b64encode(buffer.getvalue()).decode()


def faults(value: object) -> list[tuple[tuple[int | str, ...], str, str]]:
    with pytest.raises(ValidationError) as caught:
        PICTURE.validate_python(value, context=PixelBudget(MAX_PIXELS))
    return [(error["loc"], error["type"], error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    "value",
    [
        PIXELS_HW,
        [[float(number) for number in row] for row in PIXELS_HW],
        as_base64(),
        f"data:image/png;base64,{as_base64()}",
        f"data:;base64,{as_base64()}",
    ],
    ids=["integers", "floats", "base64", "data URL", "bare data URL"],
)
def test_a_picture_becomes_float32(value: object) -> None:
    pixels_HW = PICTURE.validate_python(value, context=PixelBudget(MAX_PIXELS))
    assert pixels_HW.dtype == np.float32
    assert pixels_HW.tolist() == PIXELS_HW


def test_numbers_are_rounded_once_and_to_the_nearest_float32() -> None:
    pixels_HW = PICTURE.validate_python(
        [[0.1, 1 / 3, 254.99999999], [1e-46, 16777217 / 2**20, 0]], context=PixelBudget(MAX_PIXELS)
    )
    assert pixels_HW.tolist() == [
        [np.float32(0.1), np.float32(1 / 3), 255.0],
        [0.0, np.float32(16777217 / 2**20), 0.0],
    ]


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a number"), ({"rows": []}, "an object")],
)
def test_what_is_no_picture_at_all_is_told(value: object, found: str) -> None:
    assert faults(value) == [((), "wrong_type", f"{EXPECTED}, found {found}")]


def test_another_number_of_rows_is_told() -> None:
    assert faults([[1, 2, 3]]) == [((), "wrong_shape", f"{EXPECTED}, found 1 rows")]
    assert faults([]) == [((), "wrong_shape", f"{EXPECTED}, found 0 rows")]
    assert faults([[1, 2, 3]] * 3) == [((), "wrong_shape", f"{EXPECTED}, found 3 rows")]


def test_a_ragged_row_is_told_by_its_number() -> None:
    row = "expected a row of 3 numbers"
    assert faults([[1, 2, 3], [4, 5]]) == [((1,), "wrong_shape", f"{row}, found 2")]
    assert faults([[1, 2, 3, 4], [5, 6]]) == [
        ((0,), "wrong_shape", f"{row}, found 4"),
        ((1,), "wrong_shape", f"{row}, found 2"),
    ]


@pytest.mark.parametrize(
    ("row", "found"), [(7, "a number"), ("abc", "a string"), (None, "null"), ({}, "an object"), (False, "a boolean")]
)
def test_a_row_that_is_none_is_told(row: object, found: str) -> None:
    assert faults([row, [1, 2, 3]]) == [((0,), "wrong_type", f"expected a row of 3 numbers, found {found}")]


@pytest.mark.parametrize(
    ("number", "code", "found"),
    [
        ("1", "wrong_type", "a string"),
        (True, "wrong_type", "a boolean"),
        (None, "wrong_type", "null"),
        ([1], "wrong_type", "an array"),
        ({}, "wrong_type", "an object"),
        (float("nan"), "not_finite", "nan"),
        (float("inf"), "not_finite", "inf"),
        (float("-inf"), "not_finite", "-inf"),
        (-1, "out_of_range", "-1"),
        (256, "out_of_range", "256"),
        (-1e-9, "out_of_range", "-1e-09"),
        (255.00001, "out_of_range", "255.00001"),
        (1e39, "out_of_range", "1e+39"),
        (10**4000, "out_of_range", "1" + "0" * 23),
    ],
)
def test_a_number_that_is_none_is_told_by_row_and_column(number: object, code: str, found: str) -> None:
    expected = "expected a number" if code == "wrong_type" else RANGE
    assert faults([[1, 2, 3], [4, number, 6]]) == [((1, 1), code, f"{expected}, found {found}")]


def test_every_fault_of_a_picture_is_told_up_to_a_limit() -> None:
    assert [place for place, _, _ in faults([[-1, 2, "x"], [None, 5, 300]])] == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert len(faults([[-1] * 100] * 2)) == MAX_FAULTS_PER_PICTURE


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("not base64!", "not_base64", "expected base64, found "),
        ("abc", "not_base64", "expected base64, found Incorrect padding"),
        (as_base64()[:-1], "not_base64", "expected base64, found "),
        (as_base64()[:8] + "\n" + as_base64()[8:], "not_base64", "expected base64, found "),
        ("é", "not_base64", "ASCII"),
        ("\ud800", "not_base64", "ASCII"),
        ("{reason}", "not_base64", "expected base64"),
        ("", "not_an_image", "no PNG or JPEG"),
        ("data:image/png;base64", "not_an_image", "no PNG or JPEG"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "not_an_image", "no PNG or JPEG"),
        (base64.b64encode(b"just text").decode(), "not_an_image", "no PNG or JPEG"),
        (as_base64()[:60], "damaged_image", "damaged"),
        (as_base64([[0] * 101]), "too_many_pixels", "101x1 pixels, at most 100"),
    ],
)
def test_a_string_that_is_no_picture_is_told(text: str, code: str, message: str) -> None:
    ((place, found_code, found_message),) = faults(text)
    assert (place, found_code) == ((), code)
    assert message in found_message


def test_a_jpeg_as_base64_is_taken() -> None:
    assert PICTURE.validate_python(as_base64([[128] * 3] * 2, "JPEG"), context=PixelBudget(MAX_PIXELS)).shape == (2, 3)


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (PIXELS_HW, True),
        (as_base64(), True),
        ([[0.5] * 3] * 2, True),
        ([[1, 2, 3]], False),
        ([[1, 2], [3, 4]], False),
        ([[1, 2, 256], [1, 2, 3]], False),
        ([[1, 2, -1], [1, 2, 3]], False),
        (None, False),
        ({}, False),
    ],
)
def test_the_json_schema_says_what_the_validator_does(value: object, is_valid: bool) -> None:
    schema = PICTURE.json_schema()
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(value) == is_valid
    if is_valid:
        PICTURE.validate_python(value, context=PixelBudget(MAX_PIXELS))
    else:
        assert faults(value)


@pytest.mark.parametrize(
    ("conversion", "sentence"),
    [
        (
            {},
            "color is turned grey (ITU-R 601-2 luma), transparency is put on 0, another size is fitted into 3x2 (width "
            "x height) keeping its aspect ratio (box filter), the rest is filled with 0",
        ),
        (
            {"color": "reject", "resize": "reject", "background": 7},
            "color is refused, transparency is put on 7, any other size than 3x2 (width x height) is refused",
        ),
        (
            {"fit": "stretch", "resize": "lanczos"},
            "color is turned grey (ITU-R 601-2 luma), transparency is put on 0, another size is stretched to 3x2 "
            "(width x height) (lanczos filter)",
        ),
    ],
)
def test_the_conversion_is_described_in_words(conversion: dict[str, Any], sentence: str) -> None:
    assert describe(ImageInput(height=2, width=3, conversion=ImageConversion(**conversion))) == sentence
