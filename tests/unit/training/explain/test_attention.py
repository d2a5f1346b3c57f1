import pytest
import torch

from training.explain.attention import pooled, rollout


def test_rollout_of_one_layer_is_half_attention_and_half_what_came_past_it():
    weights = torch.tensor([[[[0.2, 0.8], [0.6, 0.4]], [[0.4, 0.6], [1.0, 0.0]]]])
    expected = torch.tensor([[[0.65, 0.35], [0.4, 0.6]]])
    torch.testing.assert_close(rollout([weights], torch.tensor([2])), expected)
    torch.testing.assert_close(rollout([weights, weights], torch.tensor([2])), expected @ expected)


def test_padding_neither_gives_nor_takes_and_real_rows_sum_to_one():
    weights = torch.softmax(torch.randn(3, 2, 2, 5, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    lengths = torch.tensor([3, 5])
    flow = rollout(list(weights), lengths)
    assert not flow[0, 3:].any()
    assert not flow[0, :, 3:].any()
    torch.testing.assert_close(flow.sum(dim=2), torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))
    torch.testing.assert_close(pooled(flow, lengths).sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("weights", [[], [torch.ones(1, 2, 3, 4)], [torch.ones(1, 2, 3, 3), torch.ones(1, 2, 4, 4)]])
def test_other_shapes_are_refused(weights):
    with pytest.raises(ValueError, match=r"rollout needs|must all have the shape"):
        rollout(weights, torch.tensor([3]))
