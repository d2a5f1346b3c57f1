import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.clouds.sagemaker import ATTRIBUTES, MAX_ATTRIBUTES_BYTES, TARGET, SageMaker
from app.protocols.manners import NOTHING, Asked

MANNER = SageMaker(["top_k", "outputs"])


def read(attributes: str | None = None, target: str | None = None) -> Asked:
    headers = [(b"accept", b"*/*")]
    headers += [] if attributes is None else [(ATTRIBUTES.lower().encode(), attributes.encode("latin-1"))]
    headers += [] if target is None else [(TARGET.lower().encode(), target.encode("latin-1"))]
    return MANNER.read(headers)


def test_a_request_without_its_headers_asks_for_nothing() -> None:
    assert read() is NOTHING


@pytest.mark.parametrize(
    ("attributes", "model", "options", "passed_back"),
    [
        ("", None, {}, b""),
        ("model=cnn", "cnn", {}, b""),
        ("model=cnn,version=2", "cnn", {"version": "2"}, b""),
        (" model = cnn , top_k = 3 ", "cnn", {"top_k": "3"}, b""),
        ("outputs=error;code,tensor=logits", None, {"outputs": "error,code", "tensor": "logits"}, b""),
        ("c000b4f9-df62", None, {}, b"c000b4f9-df62"),
        ("a=1,model=cnn,b=2=3,,c", "cnn", {}, b"a=1,b=2=3,c"),
        ("Model=cnn", None, {}, b"Model=cnn"),  # attributes are opaque, and so is the case of their names
        ("model", None, {}, b"model"),
        ("model=", "", {}, b""),
        ("trace=\xff", None, {}, b"trace=\xff"),
    ],
)
def test_attributes_are_ours_or_passed_back(
    attributes: str, model: str | None, options: dict[str, str], passed_back: bytes
) -> None:
    asked = read(attributes)
    assert (asked.model, asked.options, asked.passed_back) == (model, options, passed_back)


@pytest.mark.parametrize("target", ["cnn", "/cnn", "cnn.tar.gz", "/cnn.tar.gz"])
def test_a_target_is_the_name_of_a_model(target: str) -> None:
    assert read("model=mlp", target).model == "cnn"


def test_an_empty_target_is_none() -> None:
    assert read("model=mlp", "").model == "mlp"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1024))
def test_whatever_the_attributes_are_no_answer_has_longer_ones(attributes: str) -> None:
    for _, value in MANNER.sign(read(attributes), None):
        assert 0 < len(value) <= MAX_ATTRIBUTES_BYTES
        assert value.strip() == value
