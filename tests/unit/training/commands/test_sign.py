"""The command, and packaging that signs in one go: a signature that the service takes, or one clear error."""

import pytest

from app.bundle.loader import BundleRef, open_bundle
from app.bundle.signing import read_keys
from tests.support.bundles import dummy_bundle
from tests.support.foreign import scorer
from tests.support.signatures import key_pair, rsa_key_pair
from training import cli

PACKAGE = [
    "--task", "tabular_classification", "--labels", "a, b", "--features", "f,g,h", "--low", "0", "--high", "9",
    "--description", "Of somebody.", "--license", "MIT",
]  # fmt: skip


def run(capsys, *arguments):
    try:
        code = cli.main([*map(str, arguments)])
    except SystemExit as exc:
        code = exc.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def verify(folder, public):
    bundle = open_bundle(BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder), read_keys(public))
    bundle.expect_as_signed()
    return bundle


def test_bundles_are_signed_and_signed_anew(capsys, tmp_path):
    first, second = key_pair(tmp_path), key_pair(tmp_path, "second")
    folders = [dummy_bundle(tmp_path / "models", version=version, rows=1) for version in (1, 2)]
    code, out, err = run(capsys, "sign", *folders, "--key", first.private)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"wrote {folder / 'model.sig'}" for folder in folders]
    verify(folders[0], first.public)
    assert run(capsys, "sign", folders[0], "--key", second.private)[0] == 0
    verify(folders[0], second.public)
    verify(folders[1], first.public)
    assert sorted(path.name for path in folders[0].parent.iterdir()) == ["1", "2"]


def test_an_encrypted_key_takes_its_password_from_a_file(capsys, tmp_path):
    pair, folder = key_pair(tmp_path, password=b"open sesame"), dummy_bundle(tmp_path / "models", rows=1)
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    assert run(capsys, "sign", folder, "--key", pair.private, "--key-password-file", password)[0] == 0
    verify(folder, pair.public)
    for content, fault in (("wrong", "is no private key that can sign"), ("", "is empty")):
        password.write_text(content)
        code, _, err = run(capsys, "sign", folder, "--key", pair.private, "--key-password-file", password)
        assert (code, err.count("\n")) == (2, 1)
        assert fault in err


def test_packaging_signs_before_anybody_sees_the_bundle(capsys, tmp_path):
    pair = key_pair(tmp_path)
    path = scorer(tmp_path / "a.onnx")
    code, _, err = run(
        capsys, "package", path, *PACKAGE, "--models-dir", tmp_path / "models", "--sign-key", pair.private
    )
    assert (code, err) == (0, "")
    bundle = verify(tmp_path / "models" / "a" / "1", pair.public)
    assert sorted(bundle.signed) == ["golden.npz", "manifest.json", "model.onnx"]


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("none.pem", "No such file"),
        ("key.pub", "is no private key that can sign: it has to be an elliptic curve key"),
        ("rsa.pem", "is no private key that can sign: it has to be an elliptic curve key"),
        ("locked.pem", "its password is needed"),
        ("text.pem", "is no private key that can sign"),
    ],
)
def test_a_key_that_cannot_sign_is_told_before_any_work(capsys, tmp_path, key, fault):
    key_pair(tmp_path)
    key_pair(tmp_path, "locked", password=b"open sesame")
    rsa_key_pair(tmp_path)
    (tmp_path / "text.pem").write_text("key")
    path = scorer(tmp_path / "a.onnx")
    for arguments in (
        ("sign", dummy_bundle(tmp_path / "signed", rows=1), "--key", tmp_path / key),
        ("package", path, *PACKAGE, "--models-dir", tmp_path / "models", "--sign-key", tmp_path / key),
    ):
        code, _, err = run(capsys, *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert fault in err
    assert not (tmp_path / "models").exists()


def test_what_is_no_bundle_or_holds_a_link_is_not_signed(capsys, tmp_path):
    pair, folder = key_pair(tmp_path), dummy_bundle(tmp_path / "models", rows=1)
    code, _, err = run(capsys, "sign", folder.parent, "--key", pair.private)
    assert code == 2
    assert f"{folder.parent} is no bundle: it has no manifest.json" in err
    (folder / "link").symlink_to(tmp_path)
    code, _, err = run(capsys, "sign", folder, "--key", pair.private)
    assert code == 2
    assert "cannot be signed" in err
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1"]
    assert not (folder / "model.sig").exists()
