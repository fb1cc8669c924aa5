"""Model files and stored states from strangers: nothing in them is ever run."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_embed.encoders import load_encoder, weights_file
from napari_embed.encoders.catalogue import TORCHVISION_MODELS
from napari_embed.encoders.torchvision_models import load_torchvision_encoder
from napari_embed.encoders.weights_file import read_weights
from napari_embed.errors import (
    EmbedError,
    InputError,
    ModelError,
    UntrustedModelError,
)

RESNET = next(m for m in TORCHVISION_MODELS if m.model == "resnet18")


class Payload:
    """Writes the canary as soon as it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def torch_zip(payload: Payload, path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2), "x": payload}, path)


def torch_zip_as_storage_key(payload: Payload, path: Path) -> None:
    torch.save({payload: torch.zeros(2)}, path)


def torch_legacy(payload: Payload, path: Path) -> None:
    torch.save({"x": payload}, path, _use_new_zipfile_serialization=False)


def raw_pickle(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


def legacy_tar(payload: Payload, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(payload)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def whole_module(payload: Payload, path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    module.extra = payload
    torch.save(module, path)


def script_archive(payload: Payload, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": payload}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry))
        target.writestr("archive/constants.pkl", pickle.dumps(payload))


def numpy_objects(payload: Payload, path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, weight=np.array([payload], dtype=object))


HOSTILE = [
    torch_zip,
    torch_zip_as_storage_key,
    torch_legacy,
    raw_pickle,
    legacy_tar,
    whole_module,
    script_archive,
    numpy_objects,
]


def test_the_payload_is_live(canary: Path) -> None:
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.is_dir()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("write", HOSTILE, ids=lambda f: f.__name__)
def test_hostile_weights_run_nothing(
    write: Callable[[Payload, Path], None], suffix: str, canary: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(Payload(canary), path)
    with pytest.raises((ModelError, InputError)) as caught:
        read_weights(path)
    assert not canary.exists()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("write", HOSTILE, ids=lambda f: f.__name__)
def test_hostile_file_in_the_cache_is_refused_unread(
    write: Callable[[Payload, Path], None],
    canary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchvision_importable: None,
) -> None:
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path))
    monkeypatch.setattr(weights_file.torch, "load", pytest.fail)
    folder = tmp_path / "weights"
    folder.mkdir()
    write(Payload(canary), folder / RESNET.file_name)
    with pytest.raises(UntrustedModelError, match="SHA-256"):
        load_encoder(RESNET.encoder_name)
    assert not canary.exists()


def test_hostile_file_with_the_right_checksum_runs_nothing(
    canary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchvision_importable: None,
) -> None:
    """As if a forger had met the published digits: the reader is safe by itself."""
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path))
    torch_zip(Payload(canary), tmp_path / "x.pth")
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    model = replace(RESNET, file_name=f"resnet18-{digest[:8]}.pth")
    (tmp_path / "weights").mkdir()
    (tmp_path / "x.pth").rename(tmp_path / "weights" / model.file_name)
    with pytest.raises(UntrustedModelError, match="plain weights file"):
        load_torchvision_encoder(model, "cpu", None, None, None)
    assert not canary.exists()


def test_wrong_checksum_is_refused_before_parsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "_parse_torch", pytest.fail)
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(UntrustedModelError, match="was not opened"):
        load_encoder("lite0", weights=path)


def test_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(1_000_000)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < 100_000
    assert read_weights(plain)[0]["a"].shape == (1_000_000,)
    with pytest.raises(UntrustedModelError, match="would unpack to 4"):
        read_weights(packed)


def test_damaged_weights_raise_our_errors_only(
    tmp_path: Path, canary: Path, rng: np.random.Generator
) -> None:
    buffer = io.BytesIO()
    torch.save({f"layer{i}.weight": torch.zeros(5, 7) for i in range(6)}, buffer)
    good = np.frombuffer(buffer.getvalue(), np.uint8)
    path = tmp_path / "weights.pth"
    outcomes: dict[str, int] = {}
    for _ in range(300):
        content = good.copy()
        spots = rng.integers(0, good.size, int(rng.integers(1, 30)))
        content[spots] = rng.integers(0, 256, spots.size)
        if rng.random() < 0.3:
            content = content[: int(rng.integers(0, good.size))]
        path.write_bytes(content.tobytes())
        try:
            tensors, _ = read_weights(path)
            outcome = "read"
            assert all(isinstance(t, torch.Tensor) for t in tensors.values())
        except EmbedError as error:
            outcome = type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"300 damaged files: {outcomes}")
    assert sum(outcomes.values()) == 300
    assert len(outcomes) > 1


def test_stored_state_with_objects_is_refused(canary: Path) -> None:
    encoder = load_encoder("descriptor")
    path = canary.with_suffix(".npz")
    np.savez(path, mean=np.array([Payload(canary)], dtype=object))
    with (
        np.load(path, allow_pickle=False) as state,
        pytest.raises((ModelError, ValueError)),
    ):
        encoder.load_state(state)
    with pytest.raises(ModelError, match="Fit it again"):
        encoder.load_state({"mean": np.array([Payload(canary)], dtype=object)})
    assert not canary.exists()
