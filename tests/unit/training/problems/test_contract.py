"""What holds for every kind of problem, on a network that has learned nothing."""

import numpy as np
import pytest
import torch

from app import tasks
from app.tasks import check_contract
from app.tensors import num_rows
from tests.support.bundles import manifest_document
from tests.support.tasks import LIMITS, bundle_of
from training import architectures, pipeline, problems
from training.config import TrainConfig
from training.errors import ConfigError
from training.export import verify
from training.inference import outputs_of

KINDS = problems.kinds()


@pytest.fixture(params=KINDS)
def case(request, cases):
    return cases[request.param]


def rows_of(tensors):
    """Return each row as bytes, without its padding."""
    singles = ({name: array[row : row + 1] for name, array in tensors.items()} for row in range(num_rows(tensors)))
    return {b"".join(array.tobytes() for array in verify.trim(single).values()) for single in singles}


def test_every_kind_is_a_task_of_the_service_and_none_is_left_out(cases):
    # tensors are for models that were trained elsewhere
    assert sorted(cases) == KINDS == sorted(set(tasks.kinds()) - {"tensors"})
    assert {kind: case.settings.kind for kind, case in cases.items()} == {kind: kind for kind in KINDS}


def test_golden_requests_and_responses_are_what_the_service_makes_of_them(case, tmp_path):
    for path, content in case.problem.files().items():
        (tmp_path / path).write_bytes(content)
    document = manifest_document(case.kind) | {
        "task": case.settings.model_dump(mode="json"),
        "inputs": [spec.model_dump(mode="json") for spec in case.problem.inputs],
        "outputs": [spec.model_dump(mode="json") for spec in case.problem.outputs],
        "metrics": {},
    }
    check_contract(tasks.create(bundle_of(document, tmp_path), LIMITS), case.golden)


def test_golden_rows_are_many_and_none_is_of_the_test_split(case):
    assert len(case.golden) >= 16
    golden = rows_of(case.golden.inputs)
    assert not golden & rows_of(case.problem.tensors(case.problem.data.test))
    shown = golden & rows_of(case.problem.tensors(case.problem.data.validation))
    # texts are letters of people, and the others may be shown
    assert len(shown) == (0 if case.kind == "text_classification" else 18 if "sequence" in case.kind else 20)


def test_tensors_and_outputs_are_as_the_manifest_describes_them(case):
    inputs = case.problem.tensors(case.problem.data.validation)
    outputs = verify.run_in_batches(case.run, inputs, 32)
    for specs, tensors in ((case.problem.inputs, inputs), (case.problem.outputs, outputs)):
        assert [spec.name for spec in specs] == list(tensors)
        assert all(spec.describes(tensors[spec.name]) for spec in specs)
        assert num_rows(tensors) == len(case.problem.data.validation)


def test_examples_are_what_the_served_network_is_fed_row_by_row(case):
    rows = case.problem.data.validation
    examples, tensors = case.problem.examples(rows), case.problem.tensors(rows)
    assert len(examples) == len(rows)
    for index in (0, 3, len(rows) - 1):
        batch = examples.batch(torch.tensor([index]))
        alone = verify.trim({name: array[index : index + 1] for name, array in tensors.items()})
        for tensor, expected in zip(batch.inputs, alone.values(), strict=True):
            assert tensor.numpy().dtype == expected.dtype
            np.testing.assert_array_equal(tensor.numpy(), expected)


def test_outputs_of_a_split_come_in_its_own_order(case):
    rows = case.problem.data.validation
    found = outputs_of(case.network, case.problem.examples(rows), batch_size=7)[0]
    with torch.inference_mode():
        for index in range(0, len(rows), 5):
            batch = case.problem.examples(rows.take(np.array([index]))).batch(torch.tensor([0]))
            np.testing.assert_allclose(found[index], case.network.eval()(*batch.inputs)[0], rtol=1e-4, atol=1e-4)


def test_the_score_on_validation_is_the_score_of_what_is_served(case):
    validation = case.problem.validate(case.network)
    outputs = verify.run_in_batches(case.run, case.problem.tensors(case.problem.data.validation), 32)
    assert case.problem.score(outputs, case.problem.data.validation) == pytest.approx(validation.score, rel=1e-4)
    assert validation.loss > 0
    is_accuracy = case.problem.score_name == "accuracy"
    accuracy = case.problem.accuracy(outputs, case.problem.data.validation)
    assert accuracy == (pytest.approx(validation.score) if is_accuracy else None)


def test_the_loss_of_a_batch_is_a_number_that_moves_the_weights(case):
    batch = case.problem.examples(case.problem.data.train).batch(torch.arange(8))
    network = architectures.build(
        case.config.architecture,
        architectures.known(case.config.architecture, case.problem.measured()) | dict(case.config.network),
    )
    loss = case.problem.loss(network.train()(*batch.inputs), batch.targets)
    loss.backward()
    assert loss.shape == ()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_statistics_are_of_the_training_inputs(case):
    statistics = case.problem.statistics()
    assert statistics
    for found in statistics.values():
        assert found.minimum <= found.mean <= found.maximum
        assert sum(found.histogram) == pytest.approx(1, abs=1e-4)


def test_targets_are_one_for_each_row_or_the_rows_themselves(case):
    targets = case.problem.targets(case.problem.data.test)
    if case.kind == "image_reconstruction":
        assert targets is None
    else:
        assert len(targets) == len(case.problem.data.test)


def test_the_sample_is_the_head_of_the_training_rows(case):
    sample, train = case.problem.sample(), case.problem.data.train
    assert len(sample) == len(train) <= problems.NUM_SAMPLED
    first = case.problem.tensors(sample.take(np.arange(2)))
    for name, array in case.problem.tensors(train.take(np.arange(2))).items():
        np.testing.assert_array_equal(first[name], array)


def test_an_unknown_option_is_refused_by_name(case):
    config = TrainConfig(architecture="mlp", problem=case.kind, data_options={"max_lenght": 3})
    with pytest.raises(ConfigError, match="'max_lenght'"):
        pipeline.problem_of(config, case.problem.data)


def test_data_of_another_kind_are_refused_by_name(case, cases):
    other = cases["image_classification" if case.kind.startswith("tabular") else "tabular_regression"].problem.data
    config = TrainConfig(architecture="mlp", problem=case.kind)
    with pytest.raises(ConfigError, match=rf"{case.kind} takes .*, and {other.name} has "):
        pipeline.problem_of(config, other)


def test_an_unknown_kind_is_refused_with_those_that_there_are(cases):
    with pytest.raises(ConfigError, match=r"there is no problem 'translation', there are: .*text_classification"):
        pipeline.problem_of(
            TrainConfig(architecture="mlp", problem="translation"), cases["text_classification"].problem.data
        )


def test_a_numpy_network_takes_tables_alone(cases):
    with pytest.raises(ConfigError, match=r"takes a table, Fashion-MNIST is none"):
        pipeline.problem_of(cases["tabular_regression"].config, cases["image_classification"].problem.data)
