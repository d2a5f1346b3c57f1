import numpy as np
import pytest
import torch

from training import pipeline
from training.config import TrainConfig
from training.errors import ConfigError


@pytest.fixture
def problem(cases):
    return cases["tabular_regression"].problem


def test_a_table_with_classes_has_no_number_to_tell(cases):
    config = TrainConfig(architecture="numpy_mlp", problem="tabular_regression")
    with pytest.raises(ConfigError, match=r"has classes, and no number to tell; take tabular_classification"):
        pipeline.problem_of(config, cases["tabular_classification"].problem.data)


def test_the_loss_is_the_mean_squared_error(problem):
    loss = problem.loss(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]))
    assert float(loss) == 5


def test_the_score_is_r2_and_there_is_no_accuracy_and_no_temperature(problem):
    rows = problem.data.test
    assert problem.score({"value": rows.targets}, rows) == 1
    assert problem.score({"value": np.full(len(rows), rows.targets.mean())}, rows) == pytest.approx(0)
    assert problem.accuracy({"value": rows.targets}, rows) is None
    assert problem.temperature(torch.nn.Identity()) is None


def test_the_task_names_the_target_and_golden_rows_tell_it_as_a_number(cases, problem):
    case = cases["tabular_regression"]
    assert case.settings.target == problem.data.target
    assert [row["value"] for row in case.golden.responses] == case.golden.outputs["value"].tolist()
    assert problem.measured() == {"num_features": 10, "output": "value"}
