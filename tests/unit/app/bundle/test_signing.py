"""Signatures: what the library writes is read, and whatever else lies there is told and refused."""

import base64
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from model_signing import _cli

from app.__main__ import main
from app.bundle.loader import Bundle, BundleRef, open_bundle
from app.bundle.signing import SIGNATURE_FILE, read_keys, read_signature
from app.errors import BundleError, BundleNotSigned, SettingsError
from tests.support.bundles import ARTIFACT_FILE, GOLDEN_FILE, dummy_bundle, rewrite_manifest, write_file_with_digest
from tests.support.signatures import KeyPair, key_pair, rsa_key_pair


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return key_pair(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, pair: KeyPair) -> Path:
    """A signed bundle with a report."""
    folder = dummy_bundle(tmp_path / "models", rows=4)
    (folder / "report").mkdir()
    (folder / "report" / "card.md").write_text("# measured")
    pair.sign(folder)
    return folder


def verified(folder: Path, public: Path) -> Bundle:
    ref = BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder)
    bundle = open_bundle(ref, read_keys(public))
    bundle.expect_as_signed()
    return bundle


def command(*arguments: object) -> str:
    """Run model-signing's own command, and return what it says."""
    result = CliRunner().invoke(_cli.main, [str(argument) for argument in arguments])
    return result.output.strip()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_is_signed_here_is_verified_here_and_by_the_library_s_command(
    tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    pair = key_pair(tmp_path, "other", curve)
    folder = dummy_bundle(tmp_path / "models", rows=4)
    (folder / ".gitignore").write_text("*")
    signature = pair.sign(folder)
    assert verified(folder, pair.public).signed is not None
    ask = ("verify", "key", folder, "--no-ignore-git-paths", "--public_key", pair.public, "--signature", signature)
    assert command(*ask) == "Verification succeeded"
    (folder / ARTIFACT_FILE).write_bytes(b'{"a": 1}')
    said = command(*ask)
    assert "Hash mismatch for" in said
    assert "dummy.json" in said


def test_what_the_library_s_command_signs_is_verified_here(tmp_path: Path, pair: KeyPair) -> None:
    folder = dummy_bundle(tmp_path / "models", rows=4)
    target = folder / SIGNATURE_FILE
    assert command("sign", "key", folder, "--private_key", pair.private, "--signature", target) == "Signing succeeded"
    assert sorted(verified(folder, pair.public).signed or ()) == [ARTIFACT_FILE, GOLDEN_FILE, "manifest.json"]
    # the library leaves out what git keeps; nothing that lies in a bundle goes unsigned here
    (folder / ".gitattributes").write_text("*")
    with pytest.raises(BundleNotSigned, match=r"not signed: '\.gitattributes'"):
        verified(folder, pair.public)


@pytest.mark.parametrize("algorithm", ["blake2", "shards"])
def test_digests_of_another_kind_are_told(tmp_path: Path, pair: KeyPair, algorithm: str) -> None:
    from model_signing import hashing
    from model_signing import signing as library

    folder = dummy_bundle(tmp_path / "models", rows=4)
    hashes = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE])
    if algorithm == "shards":
        hashes.use_shard_serialization()
    else:
        hashes.use_file_serialization(hashing_algorithm=algorithm)
    config = library.Config().use_elliptic_key_signer(private_key=pair.private).set_hashing_config(hashes)
    config.sign(folder, folder / SIGNATURE_FILE)
    with pytest.raises(BundleNotSigned, match=r"is no signature as model-signing 1 writes it: .*(SHA-256|each file)"):
        verified(folder, pair.public)


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    def do(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return do


def link(folder: Path) -> None:
    """Another place, the same bytes: what it holds tomorrow is not signed."""
    outside = folder.parent.parent / "card.md"
    shutil.move(folder / "report" / "card.md", outside)
    (folder / "report" / "card.md").symlink_to(outside)


def linked_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent)


def in_envelope(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def do(folder: Path) -> None:
        document = json.loads((folder / SIGNATURE_FILE).read_text())
        change(document)
        (folder / SIGNATURE_FILE).write_text(json.dumps(document))

    return do


def other_payload(document: dict[str, Any]) -> None:
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(b"card.md", b"curd.md")
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            drop(SIGNATURE_FILE),
            r"model\.sig is missing, and ZTO_SIGNING_KEY asks for it; .*training sign dummy/1 --key",
        ),
        (lambda folder: rewrite_manifest(folder, description="mine"), r"^manifest\.json is not what was signed$"),
        (lambda folder: write_file_with_digest(folder, ARTIFACT_FILE, b'{"a": 1}'), r"^manifest\.json is not what"),
        (write("report/card.md", "# better"), r"not what was signed: 'report/card\.md'$"),
        (write(ARTIFACT_FILE, '{"a": 1}'), r"not what was signed: 'dummy\.json'$"),
        (write("notes.txt", ""), r"; not signed: 'notes\.txt'$"),
        (write("more/.hidden", ""), r"; not signed: 'more/\.hidden'$"),
        (drop("report/card.md"), r"; signed and missing: 'report/card\.md'$"),
        (link, r"'report/card\.md' is a link"),
        (linked_folder, r"'more' is a link"),
        (lambda folder: os.mkfifo(folder / "pipe"), r"; not signed: 'pipe'$"),
        (write(SIGNATURE_FILE, ""), r"is no signature as model-signing 1 writes it"),
        (write(SIGNATURE_FILE, "[" * 100_000), r"is no signature as model-signing 1 writes it"),
        (write(SIGNATURE_FILE, "[]"), r"is no signature as model-signing 1 writes it"),
        (write(SIGNATURE_FILE, " " * (4 * 2**20 + 1)), r"has more than 4194304 bytes"),
        (in_envelope(other_payload), r"is not valid: it was altered, or is by another key"),
        (in_envelope(lambda d: d["dsseEnvelope"].update(payloadType="text/plain")), r"its payload is 'text/plain'"),
        (in_envelope(lambda d: d.update(mediaType="x")), r"its media type is 'x'"),
        (
            in_envelope(lambda d: d.update(verificationMaterial={})),
            r"with a certificate or an identity, not with a key",
        ),
    ],
    ids=[
        "missing",
        "manifest",
        "manifest and artifact",
        "report",
        "artifact",
        "more",
        "hidden",
        "fewer",
        "link",
        "linked folder",
        "pipe",
        "empty",
        "deep",
        "a list",
        "endless",
        "payload",
        "payload type",
        "media type",
        "certificate",
    ],
)
def test_a_bundle_that_is_not_as_it_was_signed_is_refused_with_the_reason(
    folder: Path, pair: KeyPair, damage: Callable[[Path], object], reason: str
) -> None:
    verified(folder, pair.public)
    damage(folder)
    with pytest.raises(BundleNotSigned, match=reason):
        verified(folder, pair.public)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(mediaType="x" * 100_000),
        lambda d: d["dsseEnvelope"].update(payloadType="x" * 100_000),
        lambda d: d["verificationMaterial"]["publicKey"].update(hint="x" * 100_000),
    ],
    ids=["media type", "payload type", "hint"],
)
def test_what_stands_in_a_strange_signature_makes_no_long_reason(
    folder: Path, pair: KeyPair, change: Callable[[dict[str, Any]], object]
) -> None:
    in_envelope(change)(folder)
    with pytest.raises(BundleNotSigned, match="xxx") as caught:
        verified(folder, pair.public)
    assert len(str(caught.value)) < 1000


def test_a_pipe_in_place_of_the_signature_is_not_waited_for(folder: Path, pair: KeyPair) -> None:
    (folder / SIGNATURE_FILE).unlink()
    os.mkfifo(folder / SIGNATURE_FILE)
    with pytest.raises(BundleNotSigned, match="cannot be read: it is no regular file"):
        verified(folder, pair.public)


def test_the_signature_of_another_key_is_told_with_both_keys(tmp_path: Path, folder: Path) -> None:
    other = key_pair(tmp_path, "other")
    with pytest.raises(
        BundleNotSigned, match=r"by another key: SHA-256 [0-9a-f]{64}, and ZTO_SIGNING_KEY holds [0-9a-f]"
    ):
        verified(folder, other.public)
    keys = read_keys(other.public)
    assert keys is not None
    claim = in_envelope(lambda d: d["verificationMaterial"]["publicKey"].update(hint=next(iter(keys.by_hint))))
    claim(folder)
    with pytest.raises(BundleNotSigned, match="is not valid: it was altered, or is by another key than it names"):
        verified(folder, other.public)


def other_digest(document: dict[str, Any]) -> None:
    """Another file is said to have been signed, in a statement that is as good as any."""
    payload = base64.b64decode(document["dsseEnvelope"]["payload"])
    statement = json.loads(payload)
    digest = statement["predicate"]["resources"][0]["digest"].encode()
    forged = payload.replace(digest, hashlib.sha256(b"forged").hexdigest().encode())
    document["dsseEnvelope"]["payload"] = base64.b64encode(forged).decode()


def other_signature(document: dict[str, Any]) -> None:
    entry = document["dsseEnvelope"]["signatures"][0]
    signature = bytearray(base64.b64decode(entry["sig"]))
    signature[-1] ^= 1
    entry["sig"] = base64.b64encode(signature).decode()


@pytest.mark.parametrize("forge", [other_digest, other_signature])
def test_a_statement_that_the_key_has_not_signed_is_refused(
    folder: Path, pair: KeyPair, forge: Callable[[dict[str, Any]], None]
) -> None:
    keys = read_keys(pair.public)
    assert keys is not None
    in_envelope(forge)(folder)
    with pytest.raises(BundleNotSigned, match="is not valid: it was altered, or is by another key than it names"):
        read_signature(folder, keys)


def test_signature_that_was_made_over_another_bundle_by_the_same_key_is_refused(
    tmp_path: Path, folder: Path, pair: KeyPair
) -> None:
    other = dummy_bundle(tmp_path / "models", "other", rows=4)
    signed = json.loads(pair.sign(other).read_text())["dsseEnvelope"]["signatures"]
    in_envelope(lambda d: d["dsseEnvelope"].update(signatures=signed))(folder)
    with pytest.raises(BundleNotSigned, match="is not valid: "):
        verified(folder, pair.public)


def test_the_signature_of_another_bundle_does_not_fit(tmp_path: Path, folder: Path, pair: KeyPair) -> None:
    other = dummy_bundle(tmp_path / "models", "other", rows=4)
    pair.sign(other)
    shutil.copy(other / SIGNATURE_FILE, folder / SIGNATURE_FILE)
    with pytest.raises(BundleNotSigned, match=r"manifest\.json is not what was signed"):
        verified(folder, pair.public)
    # nor does a whole bundle under another name or version
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(BundleError, match="is that of other/1, but lies in dummy/1"):
        verified(folder, pair.public)


def test_a_file_that_is_swapped_after_the_check_is_not_used(folder: Path, pair: KeyPair) -> None:
    """Digests come from the manifest that was signed, and are taken of the bytes that are handed on."""
    bundle = verified(folder, pair.public)
    # of the same size, which alone is not to be believed
    write_file_with_digest(folder, ARTIFACT_FILE, b"[]".center((folder / ARTIFACT_FILE).stat().st_size))
    with pytest.raises(BundleError, match=r"dummy\.json is not the file that the manifest describes"):
        bundle.read(bundle.artifact("dummy"))


def test_either_of_two_keys_will_do_so_that_one_can_follow(tmp_path: Path, folder: Path, pair: KeyPair) -> None:
    other = key_pair(tmp_path, "other")
    both = tmp_path / "both.pub"
    both.write_text(f"the old one\n{pair.public.read_text()}\nthe new one\n{other.public.read_text()}")
    verified(folder, both)
    other.sign(folder)
    verified(folder, both)
    with pytest.raises(BundleNotSigned, match="by another key"):
        verified(folder, pair.public)


def test_without_a_key_no_signature_is_asked_for(folder: Path) -> None:
    assert read_keys(None) is None
    (folder / SIGNATURE_FILE).write_text("anything")
    bundle = open_bundle(BundleRef(name="dummy", version=1, folder=folder), None)
    bundle.expect_as_signed()


def test_what_is_learned_of_a_bundle_lies_beside_it_and_harms_no_signature(folder: Path, pair: KeyPair) -> None:
    (folder.parent / "1.tuning.json").write_text("{}")
    verified(folder, pair.public)


@pytest.mark.parametrize(
    "content", [b"", b"key", "private", "rsa", b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"]
)
def test_a_file_that_holds_no_key_of_ours_is_refused_at_the_start(
    tmp_path: Path, pair: KeyPair, content: bytes | str
) -> None:
    path = tmp_path / "setting.pub"
    known = {"private": pair.private, "rsa": rsa_key_pair(tmp_path).public}
    path.write_bytes(known[content].read_bytes() if isinstance(content, str) else content)
    with pytest.raises(SettingsError, match=rf"^ZTO_SIGNING_KEY={path} holds (no public key|a key of another kind)"):
        read_keys(path)


def test_a_key_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ZTO_SIGNING_KEY=.*none\.pub cannot be read: No such file"):
        read_keys(tmp_path / "none.pub")


def test_without_the_library_the_extra_is_named(pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(SettingsError, match=r"pip install 'zero-to-one\[verifying\]', or leave it unset"):
        read_keys(pair.public)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeyPair]:
    place = tmp_path_factory.mktemp("signed")
    pair, folder = key_pair(place), dummy_bundle(place / "models", rows=1)
    pair.sign(folder)
    return folder, pair


@settings(max_examples=150)
@given(data=st.data())
def test_no_mutation_of_a_signature_says_anything_else_than_was_signed(
    signed: tuple[Path, KeyPair], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder, pair = signed
    keys = read_keys(pair.public)
    assert keys is not None
    text = bytearray((folder / SIGNATURE_FILE).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    place = tmp_path_factory.mktemp("mutated")
    (place / SIGNATURE_FILE).write_bytes(text)
    try:
        digests = read_signature(place, keys)
    except BundleNotSigned:
        return
    assert digests == read_signature(folder, keys)


@pytest.mark.parametrize(
    "tool", [["tune", "dummy"], ["predict", "dummy", "row.png", "--local"]], ids=lambda tool: tool[0]
)
def test_tools_that_load_a_bundle_ask_for_its_signature_too(
    folder: Path, pair: KeyPair, tool: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / SIGNATURE_FILE).unlink()
    monkeypatch.setenv("ZTO_MODELS_DIR", str(folder.parent.parent))
    monkeypatch.setenv("ZTO_SIGNING_KEY", str(pair.public))
    assert main(tool) == 2
    assert "error: model.sig is missing, and ZTO_SIGNING_KEY asks for it" in capsys.readouterr().err
