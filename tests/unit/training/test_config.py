import dataclasses

import pytest

from training import architectures, data
from training.config import DEFAULT_SEED, TrainConfig, recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_fits_its_architecture_and_its_data_are_there(name):
    config = recipe(name)
    assert config.name == name
    assert config.seed == DEFAULT_SEED
    assert architectures.build(config.architecture, config.network)
    assert config.data_set in data.names()


def test_an_architecture_without_a_recipe_gets_the_defaults():
    assert recipe("something_new") == TrainConfig(architecture="something_new")


def test_what_is_said_wins_over_the_recipe():
    assert recipe("mlp", epochs=2, seed=3) == dataclasses.replace(recipe("mlp"), epochs=2, seed=3)


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe("mlp").epochs = 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", 0),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warmup", 1.0),
        ("weight_decay", -0.1),
        ("label_smoothing", float("nan")),
        ("accumulate", 0),
        ("decay_epochs", 0),
        ("decay_factor", 1.0),
        ("decay_factor", float("nan")),
        ("momentum", 0.0),
        ("momentum", 1.0),
        ("clip_norm", 0.0),
        ("clip_norm", float("nan")),
        ("clip_norm", float("inf")),
    ],
)
def test_an_impossible_value_is_refused_and_named(name, value):
    with pytest.raises(ValueError, match=name):
        recipe("mlp", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("seed", -1),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("weight_decay", float("nan")),
        ("weight_decay", 1e4),
        ("folds", 1),
    ],
)
def test_an_impossible_value_of_a_numpy_network_is_refused_and_named(name, value):
    with pytest.raises(ValueError, match=name):
        recipe("numpy_mlp", **{name: value})


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("optimizer", "sgd, momentum, nesterov, rmsprop, adam, adamw"),
        ("schedule", "constant, step, cosine, one_cycle, plateau"),
        ("precision", "fp32, bf16, fp16"),
    ],
)
def test_an_unknown_choice_is_refused_and_what_there_is_named(name, choices):
    with pytest.raises(ValueError, match=f"there is no {name} 'lion', there are: {choices}"):
        recipe("mlp", **{name: "lion"})


@pytest.mark.parametrize("name", ["mlp", "numpy_mlp"])
def test_an_unknown_setting_is_refused_and_what_there_is_named(name):
    with pytest.raises(ValueError, match=f"no setting 'lr' of {name}, there are: .*learning_rate"):
        recipe(name, lr=0.1)


def test_a_config_is_called_as_its_architecture_unless_it_is_said_otherwise():
    assert TrainConfig(architecture="cnn").name == "cnn"
    assert TrainConfig(name="small", architecture="cnn").name == "small"
    assert recipe("cnn").name == "cnn"
