import dataclasses
import io
import json
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.golden import GoldenRows, dump_golden, expect_close, parse_golden
from app.bundle.manifest import Tolerance
from app.errors import BundleError, BundleNotProven
from app.tensors import Tensors
from tests.support.bundles import golden_images, golden_rows

EXACT = Tolerance(atol=0.0, rtol=0.0)


@pytest.fixture(scope="module")
def golden() -> GoldenRows:
    return golden_rows(golden_images(5, 2, 3), ("a", "b"))


def expect_same(left: Tensors, right: Tensors) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert left[name].tobytes() == right[name].tobytes()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def as_json(value: object) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def test_golden_rows_come_back_bit_for_bit(golden: GoldenRows) -> None:
    back = parse_golden(dump_golden(golden))
    assert len(back) == 5
    assert (back.requests, back.responses) == (golden.requests, golden.responses)
    expect_same(back.inputs, golden.inputs)
    expect_same(back.outputs, golden.outputs)


def test_names_with_dots_and_the_names_of_the_parts_are_kept(golden: GoldenRows) -> None:
    ones = np.ones((5, 1), np.int64)
    awkward = dataclasses.replace(golden, inputs={"input.a": ones, "requests": ones}, outputs={"output.b": ones * 2})
    back = parse_golden(dump_golden(awkward))
    assert set(back.inputs) == {"input.a", "requests"}
    assert back.outputs["output.b"].tolist() == [[2]] * 5


def test_the_same_rows_give_the_same_bytes(golden: GoldenRows) -> None:
    data = dump_golden(golden)
    assert dump_golden(parse_golden(data)) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}, "a time stamp would change the digest"


def test_nan_cannot_be_written_into_a_request(golden: GoldenRows) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_golden(dataclasses.replace(golden, requests=[float("nan")] * 5))


def test_pickled_objects_are_refused_and_not_run(golden: GoldenRows) -> None:
    ran: list[str] = []
    _Traps.ran = ran
    data = npz(
        **{"input.x": np.array([_Traps()] * 5, object), "output.y": np.ones(5)},
        requests=as_json([1] * 5),
        responses=as_json([1] * 5),
    )
    with pytest.raises(BundleError, match=r"golden file cannot be read.*pickle"):
        parse_golden(data)
    assert ran == []
    with np.load(io.BytesIO(data), allow_pickle=True) as archive:
        archive["input.x"]
    assert ran, "the trap is none: this test would prove nothing"


class _Traps:
    ran: list[str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _spring, ()


def _spring() -> int:
    _Traps.ran.append("ran")
    return 0


def test_a_file_cut_short_anywhere_is_refused(golden: GoldenRows) -> None:
    data = dump_golden(golden)
    for length in range(0, len(data), 7):
        with pytest.raises(BundleError, match="golden file cannot be read"):
            parse_golden(data[:length])


@pytest.mark.parametrize("data", [b"", b"{}", b"\x93NUMPY", npz(x=np.ones(2)), b"\x80\x04N."])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="golden file cannot be read"):
        parse_golden(data)


def test_a_file_that_inflates_to_more_than_the_memory_may_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.bundle.golden.MAX_INFLATED_BYTES", 2**16)
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(2**20))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.x.npy", array.getvalue())
    bomb = file.getvalue()
    assert len(bomb) < 2**14
    with pytest.raises(BundleError, match=r"golden file cannot be read: it inflates to 8\d+ bytes, at most 65536"):
        parse_golden(bomb)
    # what it says of itself is where reading stops, so that a lie gains nothing
    size = struct.pack("<I", 128 + 8 * 2**20)
    assert bomb.count(size) >= 2
    with pytest.raises(BundleError, match="golden file cannot be read"):
        parse_golden(bomb.replace(size, struct.pack("<I", 1000)))


def test_an_array_that_says_it_has_more_numbers_than_it_brings_is_refused() -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (2**44,)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("input.x.npy", array.getvalue())
    with pytest.raises(BundleError, match="golden file cannot be read"):
        parse_golden(file.getvalue())


@given(st.data())
def test_a_flipped_byte_is_refused_or_harmless(golden: GoldenRows, data: st.DataObject) -> None:
    good = dump_golden(golden)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        parse_golden(bytes(damaged))
    except BundleError:
        return  # anything but a BundleError fails the test


@pytest.mark.parametrize(
    "part",
    [{"requests": [0] * 4}, {"responses": [0] * 6}, {"inputs": {"x": np.ones(3)}}, {"outputs": {"y": np.ones((1, 5))}}],
    ids=lambda part: next(iter(part)),
)
def test_parts_of_different_length_are_refused(golden: GoldenRows, part: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="requests, inputs, outputs and responses"):
        parse_golden(dump_golden(dataclasses.replace(golden, **part)))


@pytest.mark.parametrize("inputs", [{}, {"x": np.ones(5), "z": np.ones(4)}, {"x": np.float32(1)}])
def test_arrays_that_share_no_first_axis_are_refused(golden: GoldenRows, inputs: Tensors) -> None:
    with pytest.raises(BundleError, match="arrays disagree"):
        parse_golden(dump_golden(dataclasses.replace(golden, inputs=inputs)))


@pytest.mark.parametrize("requests", [5, None, {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1}, "12345"])
def test_requests_that_are_no_list_are_refused(golden: GoldenRows, requests: Any) -> None:
    with pytest.raises(BundleError, match="list"):
        parse_golden(dump_golden(dataclasses.replace(golden, requests=requests)))


def test_equal_outputs_are_close_without_any_tolerance() -> None:
    expect_close({"y": np.ones((2, 2), np.float32)}, {"y": np.ones((2, 2), np.float32)}, EXACT, what="replay")


def test_a_difference_is_told_by_output_row_and_size() -> None:
    expected = np.zeros((4, 3), np.float32)
    actual = expected.copy()
    actual[1, 0], actual[2, 1] = 0.25, -0.5
    message = r"replay: output 'y' differs by 0\.5 in row 2, more than atol=0\.1 and rtol=0 "
    with pytest.raises(BundleNotProven, match=message):
        expect_close({"y": actual}, {"y": expected}, Tolerance(atol=0.1), what="replay")


def test_each_output_may_have_a_tolerance_of_its_own() -> None:
    expected = {"logits": np.zeros((2, 3)), "probabilities": np.zeros((2, 3))}
    actual = {"logits": np.full((2, 3), 5.0), "probabilities": np.full((2, 3), 0.2)}
    wide, narrow = Tolerance(atol=6.0), Tolerance(atol=0.3)
    expect_close(actual, expected, {"logits": wide, "probabilities": narrow}, what="replay")
    with pytest.raises(BundleNotProven, match=r"output 'logits' differs by 5 in row 0, more than atol=0\.3"):
        expect_close(actual, expected, {"logits": narrow, "probabilities": wide}, what="replay")


@pytest.mark.parametrize(("rtol", "fits"), [(0.010, True), (0.00995, False)])
def test_the_relative_tolerance_is_of_the_expected_value(rtol: float, fits: bool) -> None:
    actual, expected = {"y": np.array([[101.0]])}, {"y": np.array([[100.0]])}
    if fits:
        expect_close(actual, expected, Tolerance(atol=0.0, rtol=rtol), what="replay")
    else:
        with pytest.raises(BundleNotProven):
            expect_close(actual, expected, Tolerance(atol=0.0, rtol=rtol), what="replay")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["actual", "expected", "both"])
def test_what_is_not_finite_is_never_close(value: float, side: str) -> None:
    good, bad = np.zeros((3, 1), np.float32), np.zeros((3, 1), np.float32)
    bad[1] = value
    actual, expected = {"actual": (bad, good), "expected": (good, bad), "both": (bad, bad)}[side]
    with pytest.raises(BundleNotProven, match="row 1"):
        expect_close({"y": actual}, {"y": expected}, Tolerance(atol=1e30, rtol=1e30), what="replay")


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        ({}, "'y' is missing, the backend returns \\[\\]"),
        ({"z": np.zeros((2, 2), np.float32)}, "'y' is missing, the backend returns \\['z'\\]"),
        ({"y": np.zeros((2, 3), np.float32)}, r"shape \(2, 3\), expected \(2, 2\)"),
        ({"y": np.zeros((2, 2, 1), np.float32)}, r"shape \(2, 2, 1\), expected \(2, 2\)"),
        ({"y": np.zeros((2, 2), np.float64)}, "float64, expected float32"),
        ({"y": np.zeros((2, 2), np.int64)}, "int64, expected float32"),
    ],
)
def test_another_name_shape_or_dtype_is_not_close(actual: Tensors, message: str) -> None:
    with pytest.raises(BundleNotProven, match=message):
        expect_close(actual, {"y": np.zeros((2, 2), np.float32)}, Tolerance(atol=1.0), what="replay")


def test_an_output_that_nobody_expects_is_passed_over() -> None:
    zeros = np.zeros((1, 1), np.float32)
    expect_close({"y": zeros, "more": zeros + 5}, {"y": zeros}, EXACT, what="replay")
