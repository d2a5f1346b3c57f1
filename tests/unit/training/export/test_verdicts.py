import dataclasses

import pytest

from app.bundle.manifest import Artifact, Golden, Tolerance
from training.export.verdicts import INT8, KEYS, MOBILE, PRUNED, Choice, Figures, Rejected, Shipped, fault_of, report

REFERENCE = Figures(
    score=0.9, size_bytes=3000, latency_ms={"1": 1.0, "32": 10.0}, reference_latency_ms={"1": 1.0, "32": 10.0}
)
BETTER = dataclasses.replace(REFERENCE, size_bytes=900, latency_ms={"1": 0.5, "32": 5.0})


def fault(key, *, weights_share=1.0, **changes):
    return fault_of(key, dataclasses.replace(BETTER, **changes), REFERENCE, weights_share=weights_share)


@pytest.mark.parametrize("key", KEYS)
def test_what_is_as_good_smaller_and_faster_is_shipped(key):
    assert fault(key) is None


@pytest.mark.parametrize("key", ["torchscript", "torch_export", MOBILE])
def test_a_form_of_the_same_numbers_may_be_larger_and_slower(key):
    assert fault(key, size_bytes=9000, latency_ms={"1": 5.0, "32": 50.0}) is None


@pytest.mark.parametrize(("key", "loss", "is_allowed"), [
    (INT8, 0.0049, True), (INT8, 0.006, False), (PRUNED, 0.0099, True), (PRUNED, 0.011, False),
    ("torchscript", 0.011, False), ("torchscript", -0.01, True),
])  # fmt: skip
def test_half_a_point_may_be_lost_by_int8_and_one_by_others(key, loss, is_allowed):
    found = fault(key, score=0.9 - loss)
    assert (found is None) is is_allowed
    assert is_allowed or found.startswith(f"loses {loss * 100:.2f} points")


def test_a_score_that_is_no_number_is_not_shipped():
    assert fault(INT8, score=float("nan")).startswith("loses nan points")


def test_int8_is_smaller_by_three_where_weights_dominate():
    assert fault(INT8, size_bytes=1001) == "is smaller by 3.00 only, and 3 are asked for"
    assert fault(INT8, size_bytes=1001, weights_share=0.5) is None
    assert fault(PRUNED, size_bytes=1001) is None


@pytest.mark.parametrize("key", [INT8, PRUNED])
def test_what_is_not_smaller_is_not_shipped(key):
    assert fault(key, size_bytes=3000, weights_share=0.5) == "is not smaller: 3000 bytes against 3000"


@pytest.mark.parametrize("key", [INT8, PRUNED])
@pytest.mark.parametrize("latency_ms", [{"1": 1.0, "32": 10.0}, {"1": 0.5, "32": 11.0}, {"1": 1.1, "32": 1.0}])
def test_what_is_not_faster_is_not_shipped(key, latency_ms):
    found = fault(key, latency_ms=latency_ms)
    assert found.startswith(f"is not faster: {latency_ms['1']:g} ms against 1 for 1, ")


def shipped(key, tolerance):
    fmt, _, variant = key.partition("-")
    artifact = Artifact(path=f"{key}.bin", sha256="0" * 64, size_bytes=1, format=fmt, variant=variant or None)
    return Shipped(artifact=artifact, files={artifact.path: b"x"}, tolerance=tolerance, figures=BETTER)


def test_the_golden_part_states_what_each_output_may_differ_by():
    plain, wide = Tolerance(atol=1e-4), Tolerance(atol=3.0)
    golden = Golden(
        path="golden.npz", sha256="0" * 64, size_bytes=1, rows=1, tolerance={"onnx": plain}, batch_tolerance=plain
    )
    choice = Choice(
        shipped=(
            shipped(INT8, {"logits": wide, "probabilities": plain}),
            shipped("torchscript", {"logits": plain, "probabilities": plain}),
        ),
        rejected=(),
    )
    found = choice.golden(golden)
    assert found.tolerance == {"onnx": plain, INT8: wide, "torchscript": plain}
    assert set(found.output_tolerance) == {INT8}
    assert found.tolerance_of(INT8, "probabilities") == plain
    assert found.tolerance_of(INT8, "logits") == wide


def test_the_report_tells_what_is_not_shipped_and_why():
    choice = Choice(
        shipped=(shipped(INT8, {"logits": Tolerance(atol=1.0)}),),
        rejected=(Rejected(key=PRUNED, reason="is not faster"), Rejected(key=MOBILE, reason="no", figures=BETTER)),
    )
    rows = report(choice, [Artifact(path="a", sha256="0" * 64, size_bytes=7, format="onnx", test_accuracy=0.5)])
    assert [(row["key"], row["shipped"]) for row in rows] == [
        ("onnx", True), (INT8, True), (PRUNED, False), (MOBILE, False),
    ]  # fmt: skip
    assert [row.get("reason") for row in rows] == [None, None, "is not faster", "no"]
    assert [row["size_bytes"] for row in rows] == [7, 900, None, 900]
