import json

import torch
from torch import nn

from training.epochs import Epoch, Record, epoch_json


def epoch(number, score, loss=1.0):
    return Epoch(
        number=number, train_loss=0.5, validation_loss=loss, validation_score=score, learning_rate=0.1, duration_s=2.0
    )


def recorded(*scores_and_losses):
    record = Record()
    for number, (score, loss) in enumerate(scores_and_losses, start=1):
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, number)
        record.add(epoch(number, score, loss), network)
    return record


def test_the_highest_score_is_best_and_among_equals_the_lowest_loss():
    record = recorded((0.5, 1.0), (0.7, 2.0), (0.7, 1.5), (0.7, 1.5), (0.6, 0.1))
    assert record.best == epoch(3, 0.7, 1.5)
    assert record.best_weights["weight"].item() == 3


def test_only_a_higher_score_counts_as_a_gain():
    assert recorded((0.5, 1.0)).epochs_without_gain == 0
    assert recorded((0.5, 1.0), (0.7, 1.0), (0.7, 0.5), (0.6, 0.1)).epochs_without_gain == 2
    assert recorded((-3.0, 1.0), (-2.0, 1.0)).epochs_without_gain == 0


def test_what_is_kept_does_not_move_with_the_network():
    network, record = nn.Linear(1, 1), Record()
    record.add(epoch(1, 0.5), network)
    kept = record.best_weights["weight"].clone()
    nn.init.constant_(network.weight, 9.0)
    assert torch.equal(record.best_weights["weight"], kept)


def test_a_record_comes_back_from_its_state():
    record, other = recorded((0.5, 1.0), (0.4, 1.0)), Record()
    other.load_state_dict(record.state_dict())
    assert (other.history, other.best) == (record.history, record.best)
    assert torch.equal(other.best_weights["weight"], record.best_weights["weight"])
    empty = Record()
    empty.load_state_dict(Record().state_dict())
    assert empty == Record()


def test_an_epoch_is_one_line_of_json():
    line = epoch_json(epoch(3, 0.75, float("inf")))
    assert "\n" not in line
    assert json.loads(line) == {
        "number": 3,
        "train_loss": 0.5,
        "validation_loss": None,
        "validation_score": 0.75,
        "learning_rate": 0.1,
        "duration_s": 2.0,
    }
