from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.epochs import Epoch
from training.logs import tensorboard


def test_tensorboard_shows_every_number_of_every_epoch(tmp_path):
    with tensorboard(tmp_path) as tell:
        for number in (1, 2, 3):
            tell(
                Epoch(
                    number=number,
                    train_loss=1 / number,
                    validation_loss=2.0,
                    validation_score=0.25 * number,
                    learning_rate=0.5,
                    duration_s=1.0,
                )
            )
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {
        "train_loss",
        "validation_loss",
        "validation_score",
        "learning_rate",
        "duration_s",
    }
    assert [(event.step, event.value) for event in found.Scalars("validation_score")] == [
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
    ]
