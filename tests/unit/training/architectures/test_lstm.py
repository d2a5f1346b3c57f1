import torch

from training import architectures

SMALL = {"vocab_size": 30, "embedding": 6, "hidden": 5}
LENGTHS = torch.tensor([4, 8])
TOKENS = torch.tensor([[3, 7, 9, 29, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]])


def test_it_computes_what_torch_does_with_packed_rows():
    network = architectures.build("lstm", {**SMALL, "layers": 2}).eval()
    reference = torch.nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
    state = {}
    for index, layer in enumerate(network.body.layers):
        for suffix, cell in (("", layer.ahead), ("_reverse", layer.back)):
            for name, tensor in cell.state_dict().items():
                state[f"{name.removesuffix('_l0')}_l{index}{suffix}"] = tensor
    reference.load_state_dict(state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        network.embedding(TOKENS), LENGTHS, batch_first=True, enforce_sorted=False
    )
    rows = torch.nn.utils.rnn.unpack_sequence(reference(packed)[0])
    pooled_BD = torch.stack([torch.cat([row.mean(0), row.amax(0)]) for row in rows])
    torch.testing.assert_close(network(TOKENS, LENGTHS), network.head(pooled_BD), atol=1e-6, rtol=0)


def test_forget_gates_stand_open_at_first():
    network = architectures.build("lstm", SMALL)
    for cell in (network.body.layers[0].ahead, network.body.layers[0].back):
        assert cell.bias_ih_l0.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
        for gate in cell.weight_hh_l0.split(5):
            torch.testing.assert_close(gate @ gate.T, torch.eye(5), atol=1e-5, rtol=0)


def test_padding_has_no_embedding_and_learns_none():
    network = architectures.build("lstm", SMALL)
    network(TOKENS, LENGTHS).sum().backward()
    assert not network.embedding.weight[0].any()
    assert not network.embedding.weight.grad[0].any()
    assert network.embedding.weight.grad[29].any()


def test_word_dropout_silences_whole_tokens_and_keeps_their_sum_in_the_mean():
    embedding = architectures.build("lstm", {**SMALL, "word_dropout": 0.25}).embedding
    tokens_BT = torch.full((100, 200), 5)
    embedded_BTE = embedding.train()(tokens_BT)
    silent_BT = (embedded_BTE == 0).all(2)
    assert torch.equal(silent_BT, (embedded_BTE == 0).any(2))
    assert 0.23 < silent_BT.float().mean() < 0.27
    torch.testing.assert_close(embedded_BTE[~silent_BT][0], embedding.weight[5] / 0.75)
    assert torch.equal(embedding.eval()(tokens_BT)[0, 0], embedding.weight[5])


def test_embedded_tokens_give_the_same_answer_as_tokens():
    network = architectures.build("lstm", SMALL).eval()
    assert torch.equal(network.forward_embedded(network.embedding(TOKENS), LENGTHS), network(TOKENS, LENGTHS))


def test_the_default_fits_its_share_of_the_repository():
    assert architectures.num_parameters(architectures.build("lstm", {})) * 4 < 1.5e6
