"""When two versions answer the same, task by task."""

from typing import Any

import numpy as np
import pytest

from app.bundle.manifest import Manifest, Tolerance
from app.serving.agreement import Agreement
from app.tasks import kinds
from app.tensors import Tensors
from tests.support.bundles import manifest_document
from tests.support.kinds import kind_document, kind_golden
from tests.support.tasks import tabular_document

LABELED = ("image_classification", "sequence_classification", "tabular_classification", "text_classification")


def agreement(document: dict[str, Any], **changes: Any) -> Agreement:
    return Agreement(Manifest.model_validate(document), "dummy", **changes)


def probabilities(*rows: list[float]) -> Tensors:
    array_BC = np.array(rows, np.float32)
    return {"probabilities": array_BC, "logits": np.log(array_BC)}


def test_labels_agree_whatever_their_probabilities_are() -> None:
    served = probabilities([0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.5, 0.25])
    shadow = probabilities([0.4, 0.35, 0.25], [0.1, 0.7, 0.2], [0.25, 0.5, 0.25])
    compared = agreement(manifest_document()).compare(served, shadow)
    assert compared.agree_B.tolist() == [True, False, True]
    assert compared.difference_B == pytest.approx([0.1, 0.5, 0.0], abs=1e-6)


def test_numbers_agree_within_the_tolerance_of_the_policy_relative_to_what_is_served() -> None:
    price = agreement(tabular_document("tabular_regression"), tolerance=Tolerance(atol=0.5, rtol=0.01))
    served = {"value": np.array([100, 100, -100, 0], np.float32)}
    shadow = {"value": np.array([101.5, 101.75, -98.5, 0.75], np.float32)}
    compared = price.compare(served, shadow)
    assert compared.agree_B.tolist() == [True, False, True, False]
    assert compared.difference_B.tolist() == [1.5, 1.75, 1.5, 0.75]
    assert "policy" in price.definition


def test_numbers_agree_within_the_golden_tolerances_where_the_policy_has_none() -> None:
    price = agreement(tabular_document("tabular_regression"))  # 1e-6 of both kinds
    compared = price.compare({"value": np.array([1.0, 1.0])}, {"value": np.array([1.0 + 1e-6, 1.0 + 1e-5])})
    assert compared.agree_B.tolist() == [True, False]
    assert "golden" in price.definition


def test_the_code_of_an_autoencoder_is_its_own_affair() -> None:
    outputs = kind_golden("image_reconstruction").outputs
    same = agreement(kind_document("image_reconstruction"))
    assert same.compare(outputs, outputs | {"code": outputs["code"] + 9}).agree_B.all()
    assert not same.compare(outputs, outputs | {"error": outputs["error"] + 9}).agree_B.any()


def test_outputs_of_other_shapes_do_not_agree_and_have_no_difference() -> None:
    document = kind_document("tensors")
    name, *rest = kind_golden("tensors").outputs
    outputs = {each: np.zeros((2, 3)) for each in (name, *rest)}
    compared = agreement(document).compare(outputs, outputs | {name: np.ones((2, 4))})
    assert compared.agree_B.tolist() == [False, False]
    assert compared.difference_B.tolist() == [0, 0]


@pytest.mark.parametrize("kind", kinds())
def test_every_task_agrees_with_itself_and_not_with_another(kind: str) -> None:
    outputs = kind_golden(kind).outputs
    same = agreement(kind_document(kind))
    compared = same.compare(outputs, outputs)
    assert compared.agree_B.all()
    assert not compared.difference_B.any()
    other = {
        name: array[:, ::-1] if name == "probabilities" else array.astype(np.float64) + 1
        for name, array in outputs.items()
    }
    assert not same.compare(outputs, other).agree_B.all()
    assert ("label" in same.definition) == (kind in LABELED)
