import numpy as np
import pytest

from training import pipeline
from training.config import TrainConfig
from training.errors import ConfigError


def test_a_table_with_a_number_to_tell_has_no_classes(cases):
    config = TrainConfig(architecture="numpy_mlp", problem="tabular_classification")
    with pytest.raises(ConfigError, match=r"has a number to tell, and no classes; take tabular_regression"):
        pipeline.problem_of(config, cases["tabular_regression"].problem.data)


def test_the_network_is_told_the_size_of_the_table(cases):
    problem = cases["tabular_classification"].problem
    assert problem.measured() == {"num_features": 30, "num_classes": 2}
    assert problem.outputs[1].shape == ("batch", 2)


def test_golden_rows_name_each_feature_and_stay_within_its_bounds(cases):
    case = cases["tabular_classification"]
    features = case.problem.data.features
    for request, row_F in zip(case.golden.requests, case.golden.inputs["features"], strict=True):
        assert list(request["features"]) == [feature.name for feature in features]
        assert all(feature.low <= request["features"][feature.name] <= feature.high for feature in features)
        np.testing.assert_array_equal(np.array(list(request["features"].values())).astype(np.float32), row_F)
    assert {row["label"] for row in case.golden.responses} <= set(case.problem.data.classes)
