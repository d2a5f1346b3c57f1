"""What a model's outputs are told as."""

import numpy as np
import pytest

from app.protocols.open_inference.messages import RequestedOutput
from app.protocols.open_inference.model import InferModel
from app.serving.jobs import Answer, Batch
from app.tensors import Array
from tests.support.bundles import manifest_document
from tests.support.tasks import bundle_of, task_of

MODEL = InferModel(bundle_of(manifest_document()).manifest, task_of())
NAME = MODEL.outputs[0]


@pytest.mark.parametrize(
    ("row_C", "told"),
    [
        (np.array([0.5, 2.0, -1.0], np.float32), [b"2.0:1:b", b"0.5:0:a", b"-1.0:2:c"]),
        (np.array([1.0, 2.0, 2.0], np.float32), [b"2.0:1:b", b"2.0:2:c", b"1.0:0:a"]),  # of equals, the first
        (np.array([0, 255, 3], np.uint8), [b"255:1:b", b"3:2:c", b"0:0:a"]),
        (np.array([0, -(2**63), 3], np.int64), [b"3:2:c", b"0:0:a", f"{-(2**63)}:1:b".encode()]),
        (np.array([False, True, False]), [b"True:1:b", b"False:0:a", b"False:2:c"]),
    ],
)
@pytest.mark.parametrize("most", [1, 2, 3, 10**30])
def test_classes_come_best_first_whatever_the_numbers_are(row_C: Array, told: list[bytes], most: int) -> None:
    batch = Batch({NAME: row_C[None]}, 1, 0.0)
    (output,) = MODEL.answer(Answer(batch, 0, 1, 0.0), (RequestedOutput(name=NAME, classification=most),))
    assert output.datatype == "BYTES"
    assert output.array.tolist() == [told[:most]]
