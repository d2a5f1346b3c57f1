import pytest
import torch
from torch import nn

from training.explain.gradients import integrated_gradients, saliency
from training.explain.scores import log_odds


def product(inputs):
    """f = x0 * x1 + 3 x2, whose integrated gradients from 0 are (x0 x1 / 2, x0 x1 / 2, 3 x2)."""
    return inputs[:, 0] * inputs[:, 1] + 3 * inputs[:, 2]


def test_integrated_gradients_share_a_product_equally_and_leave_a_sum_to_its_parts():
    rows = torch.tensor([[2.0, 5.0, 1.0], [1.0, -4.0, 0.0]])
    found = integrated_gradients(product, rows, None, num_steps=8)
    torch.testing.assert_close(found.values, torch.tensor([[5.0, 5.0, 3.0], [-2.0, -2.0, 0.0]]))
    torch.testing.assert_close(found.change_B, torch.tensor([13.0, -4.0]))
    assert found.incompleteness < 1e-6


def test_the_baseline_gets_nothing_and_is_where_the_change_counts_from():
    rows, baseline = torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([[2.0, 1.0, 1.0]])
    found = integrated_gradients(product, rows, None, baseline=baseline, num_steps=8)
    torch.testing.assert_close(found.values, torch.tensor([[0.0, 8.0, 0.0]]))
    assert found.change_B.item() == pytest.approx(8)


def test_saliency_is_the_size_of_the_slope():
    found = saliency(product, torch.tensor([[2.0, -5.0, 1.0]]), None)
    torch.testing.assert_close(found, torch.tensor([[5.0, 2.0, 3.0]]))


def test_attributions_of_a_committed_classifier_sum_to_the_change_of_its_logit(classifier, pixels):
    some, classes = pixels[:32], classifier.classes[:32]
    found = integrated_gradients(classifier.network, some, classes, num_steps=128)
    assert found.incompleteness < 0.02
    rough = integrated_gradients(classifier.network, some, classes, num_steps=4)
    assert rough.incompleteness > 2 * found.incompleteness
    with torch.no_grad():
        change = (classifier.network(some) - classifier.network(torch.zeros(1, 28, 28))).gather(1, classes[:, None])
    torch.testing.assert_close(found.change_B, change[:, 0])


def test_rows_do_not_depend_on_how_many_are_explained_together(classifier, pixels):
    together = integrated_gradients(classifier.network, pixels[:11], classifier.classes[:11], num_steps=40).values
    alone = integrated_gradients(classifier.network, pixels[10:11], classifier.classes[10:11], num_steps=40).values
    torch.testing.assert_close(together[10:], alone, rtol=1e-3, atol=1e-4)


def test_nothing_that_was_handed_over_is_changed(classifier, pixels):
    before = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    some = pixels[:2].clone()
    saliency(classifier.network, some, classifier.classes[:2])
    integrated_gradients(classifier.network, some, classifier.classes[:2], num_steps=4)
    assert not some.requires_grad
    torch.testing.assert_close(some, pixels[:2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.network.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.network.parameters())


def test_log_odds_are_those_of_the_softmax():
    logits = torch.tensor([[1.0, 2.0, -1.0], [12.0, 0.0, 0.0]], dtype=torch.float64)
    probabilities = torch.softmax(logits, dim=1)
    torch.testing.assert_close(
        log_odds(nn.Identity())(logits), torch.log(probabilities) - torch.log1p(-probabilities), rtol=1e-3, atol=1e-9
    )
