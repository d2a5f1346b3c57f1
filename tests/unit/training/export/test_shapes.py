import torch
from torch import Tensor, nn

from tests.support.exported import SERIES
from training.export.shapes import NUM_ROWS, NUM_STEPS, dynamic_shapes, examples, named_axes


class OneByOne(nn.Module):
    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        return series.sum() + lengths.sum()


class Variadic(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


def test_the_named_axes_are_those_beyond_the_batch():
    assert named_axes(SERIES) == ("time",)
    assert named_axes(SERIES[1:]) == ()


def test_examples_are_as_long_as_their_lengths_say():
    series, lengths = examples(SERIES)
    assert (series.shape, series.dtype) == ((NUM_ROWS, NUM_STEPS, 4), torch.float32)
    assert (lengths.tolist(), lengths.dtype) == ([NUM_STEPS] * NUM_ROWS, torch.int64)


def test_examples_may_be_of_other_rows_and_lengths():
    series, lengths = examples(SERIES, rows=5, lengths={"time": 9})
    assert series.shape == (5, 9, 4)
    assert lengths.tolist() == [9] * 5


def test_what_takes_its_inputs_as_one_tuple_is_told_one_level_deeper():
    axes = {"batch": "b", "time": "t"}
    expected = ({0: "b", 1: "t"}, {0: "b"})
    assert dynamic_shapes(OneByOne(), SERIES, axes) == expected
    assert dynamic_shapes(Variadic(), SERIES, axes) == (expected,)


def test_an_axis_that_nothing_stands_for_is_fixed():
    assert dynamic_shapes(OneByOne(), SERIES, {"batch": "b"}) == ({0: "b"}, {0: "b"})
