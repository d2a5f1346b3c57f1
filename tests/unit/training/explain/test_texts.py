import pytest
import torch
from torch import nn

from training.explain.scores import log_odds
from training.explain.texts import embedding_of, token_attributions, words

TOKENS = torch.tensor([[2, 5, 7, 9, 0, 0], [2, 4, 0, 0, 0, 0], [2, 3, 8, 11, 6, 5]])
LENGTHS = torch.tensor([4, 2, 6])
TARGETS = torch.tensor([0, 1, 1])


def test_attributions_sum_to_what_the_text_changes_and_padding_gets_none(reader):
    found = token_attributions(reader, TOKENS, LENGTHS, TARGETS, keep_ids=[2])
    assert found.values.shape == TOKENS.shape
    assert not found.values[TOKENS == 0].any()
    assert found.incompleteness < 1e-3
    with torch.no_grad():
        empty = torch.where(TOKENS == 2, TOKENS, 0)
        change = log_odds(reader)(TOKENS, LENGTHS) - log_odds(reader)(empty, LENGTHS)
    torch.testing.assert_close(found.change_B, change[torch.arange(3), TARGETS])
    # what stands in the baseline too has changed nothing
    assert not found.values[:, 0].any()


def test_a_text_gets_the_same_alone_as_among_longer_ones(reader):
    together = token_attributions(reader, TOKENS, LENGTHS, TARGETS)
    alone = token_attributions(reader, TOKENS[1:2, :2], LENGTHS[1:2], TARGETS[1:2])
    torch.testing.assert_close(together.values[1, :2], alone.values[0], rtol=1e-4, atol=1e-6)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(reader):
    one = token_attributions(reader, TOKENS, LENGTHS, torch.zeros(3, dtype=torch.int64))
    other = token_attributions(reader, TOKENS, LENGTHS, torch.ones(3, dtype=torch.int64))
    torch.testing.assert_close(one.values, -other.values)


def test_many_texts_are_explained_in_calls_of_bounded_size(reader, monkeypatch):
    monkeypatch.setattr("training.explain.texts.MAX_CALL_TOKENS", 100)
    calls = []
    hook = reader.embedding.register_forward_hook(lambda module, args, output: calls.append(tuple(args[0].shape)))
    small = token_attributions(reader, TOKENS, LENGTHS, TARGETS, num_steps=8)
    hook.remove()
    monkeypatch.undo()
    assert {shape[1] for shape in calls} == {6, 2}
    torch.testing.assert_close(small.values, token_attributions(reader, TOKENS, LENGTHS, TARGETS, num_steps=8).values)


def test_words_are_averaged_over_the_texts_that_hold_them_and_rare_ones_are_not_told():
    values = torch.tensor([[1.0, 2.0, 9.0], [3.0, -1.0, 0.0]])
    tokens, lengths = torch.tensor([[4, 4, 5], [4, 6, 0]]), torch.tensor([3, 2])
    found = words(values, tokens, lengths, "abcdefgh".__getitem__, least_texts=1)
    assert [(word.token, word.num_texts, word.mean) for word in found] == [("f", 1, 9.0), ("e", 2, 3.0), ("g", 1, -1.0)]
    shared = words(values, tokens, lengths, "abcdefgh".__getitem__, least_texts=2)
    assert [word.token for word in shared] == ["e"]
    assert words(values, tokens, lengths, "abcdefgh".__getitem__, least_texts=2, leave_out=[4]) == []


def test_the_embedding_is_the_only_one_or_the_one_that_is_named(reader):
    assert embedding_of(reader) is reader.embedding
    reader.places = nn.Embedding(6, 6)
    with pytest.raises(ValueError, match="has 2 embeddings, not one: name the one of the tokens"):
        embedding_of(reader)
    reader.explained_embedding = reader.embedding
    assert embedding_of(reader) is reader.embedding
