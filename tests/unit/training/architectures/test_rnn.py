import pytest
import torch

from training import architectures

LENGTHS = torch.tensor([5, 9, 2])


def series():
    torch.manual_seed(1)
    sequence_BTC = torch.randn(3, 9, 12)
    return sequence_BTC * (torch.arange(9) < LENGTHS.unsqueeze(1)).unsqueeze(2)


def test_scaling_is_part_of_the_network_and_not_of_its_weights():
    mean, std = tuple(float(channel) for channel in range(12)), tuple(0.5 + channel for channel in range(12))
    plain = architectures.build("rnn", {}).eval()
    scaled = architectures.build("rnn", {"input_mean": mean, "input_std": std}).eval()
    scaled.load_state_dict(plain.state_dict())
    raw_BTC = series() * torch.tensor(std) + torch.tensor(mean)
    torch.testing.assert_close(scaled(raw_BTC, LENGTHS), plain(series(), LENGTHS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_it_computes_what_torch_does_with_packed_rows(pooling):
    """torch reads packed rows backward from their own end; that form cannot be exported."""
    network = architectures.build("rnn", {"pooling": pooling, "hidden": 7}).eval()
    reference = torch.nn.RNN(12, 7, batch_first=True, bidirectional=True)
    (layer,) = network.body.layers
    state = dict(layer.ahead.state_dict())
    state |= {f"{name}_reverse": tensor for name, tensor in layer.back.state_dict().items()}
    reference.load_state_dict(state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(series(), LENGTHS, batch_first=True, enforce_sorted=False)
    steps, final_SBH = reference(packed)
    rows = torch.nn.utils.rnn.unpack_sequence(steps)
    pooled_BD = {
        "mean": torch.stack([row.mean(0) for row in rows]),
        "max": torch.stack([row.amax(0) for row in rows]),
        "last": torch.cat([final_SBH[0], final_SBH[1]], dim=1),
    }[pooling]
    torch.testing.assert_close(network(series(), LENGTHS), network.head(pooled_BD), atol=1e-6, rtol=0)


def test_noise_is_added_in_training_only():
    rows = (series(), LENGTHS)
    quiet = architectures.build("rnn", {"dropout": 0.0})
    noisy = architectures.build("rnn", {"dropout": 0.0, "noise": 0.5})
    noisy.load_state_dict(quiet.state_dict())
    assert torch.equal(quiet.train()(*rows), quiet(*rows))
    assert not torch.equal(noisy.train()(*rows), noisy(*rows))
    assert torch.equal(noisy.eval()(*rows), quiet.eval()(*rows))


def test_fresh_cells_keep_the_length_of_their_state():
    cell = architectures.build("rnn", {"hidden": 16}).body.layers[0].ahead
    torch.testing.assert_close(cell.weight_hh_l0 @ cell.weight_hh_l0.T, torch.eye(16), atol=1e-5, rtol=0)
    assert not cell.bias_ih_l0.any()
