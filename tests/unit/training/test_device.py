import pytest
import torch
from torch import nn

from training.batches import Batch
from training.device import choose_device, device_of, moved
from training.errors import TrainingError


def test_the_cpu_is_there_for_whom_asks_for_it():
    assert choose_device("cpu") == torch.device("cpu")


def test_by_itself_it_takes_the_gpu_where_there_is_one():
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_that_names_the_way_out():
    with pytest.raises(TrainingError, match="--device cpu"):
        choose_device("cuda")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'tpu', there are: auto, cpu, cuda"):
        choose_device("tpu")


def test_a_network_tells_where_it_is():
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_all_of_a_batch_moves():
    batch = moved(Batch((torch.ones(2), torch.ones(2, 3)), torch.ones(2)), torch.device("meta"))
    assert {tensor.device.type for tensor in (*batch.inputs, batch.targets)} == {"meta"}
