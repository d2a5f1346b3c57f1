import pytest
import torch

from training import architectures

SMALL = {"vocab_size": 30, "max_tokens": 10, "width": 8, "heads": 2, "layers": 3, "mlp_width": 12}
LENGTHS = torch.tensor([4, 8, 1])
TOKENS = torch.tensor([[3, 7, 9, 29, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8], [5, 0, 0, 0, 0, 0, 0, 0]])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return architectures.build("transformer", SMALL).eval()


def test_attention_weights_share_out_each_token_among_the_real_ones(network):
    with torch.inference_mode():
        weights = network.attention_weights(TOKENS, LENGTHS)
    assert [tuple(weights_BNQT.shape) for weights_BNQT in weights] == [(3, 2, 8, 8)] * 3
    for weights_BNQT in weights:
        torch.testing.assert_close(weights_BNQT.sum(3), torch.ones(3, 2, 8))
        for row, length in enumerate(LENGTHS):
            assert not weights_BNQT[row, ..., length:].any()
            assert (weights_BNQT[row, ..., :length] > 0).all()
    assert (weights[0][2, ..., 0] == 1).all()


def test_attention_weights_are_those_of_the_answer(network):
    """The answer is computed by torch's own kernel; written out with these weights it must be the same."""
    with torch.inference_mode():
        weights = network.attention_weights(TOKENS, LENGTHS)
        tokens_BTD = network.embedding(TOKENS) + network.positions[:8]
        for block, weights_BNQT in zip(network.blocks, weights, strict=True):
            values_BNTH = block.attention.to_values(block.norm1(tokens_BTD)).unflatten(2, (2, 4)).transpose(1, 2)
            attended_BTD = (weights_BNQT @ values_BNTH).transpose(1, 2).flatten(2)
            tokens_BTD = tokens_BTD + block.attention.merge(attended_BTD)
            hidden = torch.nn.functional.gelu(block.dense1(block.norm2(tokens_BTD)), approximate="tanh")
            tokens_BTD = tokens_BTD + block.dense2(hidden)
        normalized_BTD = network.norm(tokens_BTD)
        pooled_BD = torch.stack([row[:length].mean(0) for row, length in zip(normalized_BTD, LENGTHS, strict=True)])
        torch.testing.assert_close(network(TOKENS, LENGTHS), network.head(pooled_BD), atol=1e-5, rtol=0)


def test_attention_weights_do_not_depend_on_batch_mates(network):
    with torch.inference_mode():
        together = network.attention_weights(TOKENS, LENGTHS)
        alone = network.attention_weights(TOKENS[:1, :4], LENGTHS[:1])
    for in_batch, by_itself in zip(together, alone, strict=True):
        torch.testing.assert_close(in_batch[:1, :, :4, :4], by_itself, atol=1e-6, rtol=0)


def test_a_token_knows_its_place(network):
    with torch.inference_mode():
        logits_BK = network(torch.tensor([[3, 3, 7], [7, 3, 3]]), torch.tensor([3, 3]))
    assert (logits_BK[0] - logits_BK[1]).abs().max() > 1e-6


def test_the_longest_text_is_taken_and_no_longer_one(network):
    assert network(torch.ones(2, 10, dtype=torch.int64), torch.tensor([10, 3])).shape == (2, 2)
    with pytest.raises(RuntimeError):
        network(torch.ones(2, 11, dtype=torch.int64), torch.tensor([11, 3]))


def test_embedded_tokens_give_the_same_answer_as_tokens(network):
    assert torch.equal(network.forward_embedded(network.embedding(TOKENS), LENGTHS), network(TOKENS, LENGTHS))


def test_the_default_fits_its_share_of_the_repository():
    assert architectures.num_parameters(architectures.build("transformer", {})) * 4 < 1.5e6
