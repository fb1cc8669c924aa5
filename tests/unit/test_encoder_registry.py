"""The list of encoders, and loading them by name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_embed.encoders import list_encoders, load_encoder, registry
from napari_embed.encoders.catalogue import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCHVISION_MODELS,
    TorchvisionModel,
)
from napari_embed.encoders.hub_catalogue import HUB_MODELS
from napari_embed.errors import InputError, MissingDependencyError


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path))


def without_packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        registry, "find_spec", lambda name: None if name in names else real(name)
    )


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from napari_embed.encoders import list_encoders; list_encoders();"
        "print([m for m in ('torch', 'torchvision', 'PIL') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_list_is_complete_and_says_what_is_needed() -> None:
    infos = list_encoders()
    names = [info.name for info in infos]
    assert names[:2] == ["descriptor", "lite0"]
    assert (
        len(set(names)) == len(names) == 2 + len(TORCHVISION_MODELS) + len(HUB_MODELS)
    )
    assert "torchvision/vit_b_16" in names
    for info in infos:
        assert info.title
        assert info.description.endswith(".")
        assert info.description.count(". ") == 0
        assert info.metric == "cosine"
        assert info.dim > 0
        assert info.input_size > 0
    assert infos[0].available
    assert infos[0].requirement == ""


def test_downloaded_weights_leave_no_requirement(tmp_path: Path) -> None:
    model = TORCHVISION_MODELS[0]
    before = {info.name: info for info in list_encoders()}[model.encoder_name]
    assert str(model.size_mb) in before.requirement
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / model.file_name).write_bytes(b"weights")
    after = {info.name: info for info in list_encoders()}[model.encoder_name]
    assert after.requirement == "" or not after.available


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_packages(monkeypatch, registry.LITE0_PACKAGE, "torchvision")
    infos = {info.name: info for info in list_encoders()}
    assert not infos["lite0"].available
    assert "napari-embed[weights]" in infos["lite0"].requirement
    assert not infos["torchvision/resnet18"].available
    assert "napari-embed[torchvision]" in infos["torchvision/resnet18"].requirement
    assert infos["descriptor"].available
    with pytest.raises(MissingDependencyError, match=r"napari-embed\[weights\]"):
        load_encoder("lite0")


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean 'torchvision/vit_b_16'"):
        load_encoder("torchvision/vit_b16")
    with pytest.raises(InputError, match="Known encoders: descriptor"):
        load_encoder("")


def test_unusable_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no weights"):
        load_encoder("descriptor", weights=tmp_path / "x.pth")
    with pytest.raises(InputError, match="batch_size"):
        load_encoder("descriptor", batch_size=0)
    with pytest.raises(InputError, match="'auto', 'cpu' or 'cuda'"):
        load_encoder("descriptor", device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="No CUDA device"):
            load_encoder("descriptor", device="cuda")


@pytest.mark.parametrize("model", TORCHVISION_MODELS, ids=lambda m: m.model)
def test_catalogue_repeats_what_torchvision_says(
    model: TorchvisionModel, torchvision_importable: None
) -> None:
    from torchvision import models

    weights = models.get_model_weights(model.model).DEFAULT
    transforms = weights.transforms()
    assert weights.url == model.url
    assert transforms.crop_size == [model.crop_size]
    assert transforms.resize_size == [model.resize_size]
    assert transforms.interpolation.value == model.interpolation
    assert tuple(transforms.mean) == IMAGENET_MEAN
    assert tuple(transforms.std) == IMAGENET_STD
    assert abs(weights.meta["_file_size"] * 2**20 / 1e6 - model.size_mb) < 2
    assert len(model.sha256_prefix) == 8
    assert set(model.sha256_prefix) <= set("0123456789abcdef")
