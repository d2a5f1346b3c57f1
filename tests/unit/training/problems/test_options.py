import pytest

from app.bundle.manifest import SequenceInput
from training.errors import ConfigError, TrainingError
from training.problems._options import expect_options, expect_positive, part_of_manifest

DEFAULTS = {"size": 4, "share": 0.5}


def test_what_is_not_given_has_its_default():
    assert expect_options({}, DEFAULTS) == DEFAULTS
    assert expect_options({"size": 8}, DEFAULTS) == {"size": 8, "share": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sise": 4}, "there is no data option 'sise'; there are: share, size"),
        ({"size": 4.0}, "the data option 'size' must be of type int, got 4.0"),
        ({"size": True}, "the data option 'size' must be of type int, got True"),
        ({"share": "half"}, "the data option 'share' must be of type float, got 'half'"),
        ({"share": None}, "the data option 'share' must be of type float, got None"),
    ],
)
def test_an_unknown_option_or_another_type_is_named(given, message):
    with pytest.raises(ConfigError) as caught:
        expect_options(given, DEFAULTS)
    assert str(caught.value) == message


def test_where_there_are_no_options_that_is_said():
    with pytest.raises(ConfigError, match="there are: none"):
        expect_options({"size": 4}, {})


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan")])
def test_what_is_not_above_zero_is_named(value):
    expect_positive({"size": 1}, "size")
    with pytest.raises(ConfigError, match=f"'size' must be above 0, got {value!r}"):
        expect_positive({"size": value}, "size")


def test_what_the_service_would_refuse_is_refused_in_one_line():
    assert part_of_manifest(SequenceInput, num_channels=2, max_length=5).max_length == 5
    with pytest.raises(ConfigError) as caught:
        part_of_manifest(SequenceInput, num_channels=2, min_length=0, max_length=70_000)
    assert "min_length" in str(caught.value)
    assert "max_length" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_a_config_is_the_callers_and_a_value_error_too():
    assert issubclass(ConfigError, TrainingError)
    assert issubclass(ConfigError, ValueError)
