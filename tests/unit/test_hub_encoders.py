"""timm and open_clip encoders with random weights, and functions as encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_embed.encoders import load_encoder
from napari_embed.encoders.functions import FunctionEncoder
from napari_embed.encoders.hub_catalogue import HUB_MODELS
from napari_embed.encoders.protocol import TextEncoder
from napari_embed.engine.pipeline import run_embed
from napari_embed.engine.progress import JobControl
from napari_embed.errors import (
    InputError,
    ModelError,
    UntrustedModelError,
)
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

SMALL_TIMM = "test_vit"  # timm's own model for tests
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(rng: np.random.Generator) -> list[np.ndarray]:
    shapes = [(40, 50, 3), (64, 64), (200, 33, 3)]
    return [rng.integers(0, 255, s, dtype=np.uint8) for s in shapes]


@pytest.fixture
def timm(torchvision_importable: None) -> Any:
    return pytest.importorskip("timm")


@pytest.fixture
def tiny_clip(torchvision_importable: None, tmp_path: Path) -> tuple[Path, Any]:
    """Weights of a tiny text and image model, and the model."""
    open_clip = pytest.importorskip("open_clip")
    (tmp_path / "tiny-clip.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pth")
    return tmp_path / "clip.pth", model


def test_timm_vectors_are_its_features(
    timm: Any, tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    whole = timm.create_model(SMALL_TIMM, pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "own.safetensors")  # with a classifier
    encoder = load_encoder(
        f"timm/{SMALL_TIMM}", weights=tmp_path / "own.safetensors", device="cpu"
    )
    vectors = encoder.encode(pictures)
    assert vectors.shape == (3, whole.num_features)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    config = timm.data.resolve_data_config({}, model=whole)
    transform = timm.data.create_transform(**config, is_training=False)
    from PIL import Image

    x = transform(Image.fromarray(pictures[0]))[None]
    with torch.inference_mode():
        expected = whole.forward_head(whole.forward_features(x), pre_logits=True)[0]
    # Our antialiased resize and PIL's differ by rounding.
    similarity = float(vectors[0] @ (expected / expected.norm()).numpy())
    assert similarity > 0.98

    other = {k: v for k, v in whole.state_dict().items() if "blocks.0" not in k}
    save_file(other, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match="belong to another model"):
        load_encoder(f"timm/{SMALL_TIMM}", weights=tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="no model 'nonsense'"):
        load_encoder("timm/nonsense", weights=tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="Give a file"):
        load_encoder(f"timm/{SMALL_TIMM}")


def test_the_list_of_hub_models_is_that_of_the_packages(timm: Any) -> None:
    open_clip = pytest.importorskip("open_clip")
    for model in HUB_MODELS:
        name = model.encoder_name.partition("/")[2]
        if model.package == "timm":
            config = timm.models.get_pretrained_cfg(name)
            assert config.hf_hub_id == model.repository
            with torch.device("meta"):
                network = timm.create_model(name, num_classes=0)
            assert network.num_features == model.dim
        else:
            config = open_clip.get_model_config(name)
            assert config["embed_dim"] == model.dim
            assert config["vision_cfg"]["image_size"] == model.input_size
            tags = open_clip.pretrained.list_pretrained_tags_by_model(name)
            hubs = [
                open_clip.pretrained.get_pretrained_cfg(name, tag).get("hf_hub", "")
                for tag in tags
            ]
            assert f"{model.repository}/" in hubs


def test_downloaded_weights_are_pinned_at_their_first_use(
    tiny_clip: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    from napari_embed.encoders import hub_catalogue, hub_models

    path, model = tiny_clip
    entry = hub_catalogue.HubModel(
        encoder_name="open_clip/tiny-clip", title="t", description="d", dim=16,
        repository="somebody/tiny", file_name="clip.pth", size_mb=1,
    )  # fmt: skip
    monkeypatch.setattr(hub_models, "HUB_MODELS", (entry,))
    asked = []

    def download(repository: str, name: str, **_: Any) -> str:
        asked.append((repository, name))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_encoder("open_clip/tiny-clip", device="cpu")
    load_encoder("open_clip/tiny-clip", device="cpu")
    assert asked == [("somebody/tiny", "clip.pth")] * 2
    state = {k: v + 1 for k, v in model.state_dict().items()}
    torch.save(state, path)  # exchanged after its first use
    with pytest.raises(UntrustedModelError):
        load_encoder("open_clip/tiny-clip", device="cpu")

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ModelError, match=r"no network.*--weights"):
        load_encoder("open_clip/tiny-clip", device="cpu")


def test_open_clip_has_a_side_for_images_and_one_for_words(
    tiny_clip: tuple[Path, Any], pictures: list[np.ndarray]
) -> None:
    import open_clip

    path, model = tiny_clip
    encoder = load_encoder("open_clip/tiny-clip", weights=path, device="cpu")
    assert isinstance(encoder, TextEncoder)
    assert not isinstance(load_encoder("descriptor"), TextEncoder)
    vectors = encoder.encode(pictures)
    assert vectors.shape == (3, 16)
    texts = ["a photo of a cat", "two cells"] * 40  # more than one batch
    words = encoder.embed_texts(texts)
    assert words.shape == (80, 16)
    assert words.dtype == np.float32
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("tiny-clip")(texts[:2])
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(words[:2], expected, atol=1e-5)
    np.testing.assert_array_equal(words[0], words[78])
    assert encoder.embed_texts([]).shape == (0, 16)
    with pytest.raises(InputError, match="empty"):
        encoder.embed_texts(["cat", " "])


def test_a_function_is_an_encoder(tmp_path: Path, rng: np.random.Generator) -> None:
    np.save(tmp_path / "i.npy", rng.integers(1, 200, (50, 8, 8, 3), dtype=np.uint8))
    calls = []

    def colours(images: list[np.ndarray]) -> np.ndarray:
        calls.append(len(images))
        return np.array([image.mean(axis=(0, 1)) for image in images])

    encoder = FunctionEncoder(colours, name="colours", dim=3, batch_size=16)
    spec = detect_source(tmp_path / "i.npy")
    with Project.create(tmp_path / "p.embed", spec) as project:
        result = run_embed(project, EmbedParams(), JobControl(), encoder=encoder)
        assert result.name == "colours"
        assert max(calls) == 16
        vectors = np.asarray(project.embeddings("colours"))
        images = np.load(tmp_path / "i.npy").mean(axis=(1, 2))
        unit = images / np.linalg.norm(images, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, unit, atol=1e-5)
        again = run_embed(project, EmbedParams(), JobControl(), encoder=encoder)
        assert not again.computed
        newer = FunctionEncoder(colours, name="colours", dim=3, version=2)
        assert run_embed(project, EmbedParams(), JobControl(), encoder=newer).computed


def test_what_a_function_does_wrong_is_said(rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
    wrong = FunctionEncoder(lambda images: np.zeros(3), name="w", dim=4)
    with pytest.raises(ModelError, match=r"must return \(1, 4\) numbers"):
        wrong.encode([image])
    nan = FunctionEncoder(lambda i: np.full((len(i), 2), np.nan), name="n", dim=2)
    assert np.isnan(nan.encode([image])).all()
    assert "NaN" in nan.failures[0]
    with pytest.raises(InputError, match="name must be"):
        FunctionEncoder(len, name="../x", dim=1)

    def hungry(images: list[np.ndarray]) -> np.ndarray:
        if len(images) > 2:
            raise MemoryError("too many")
        return np.ones((len(images), 2))

    encoder = FunctionEncoder(hungry, name="h", dim=2)
    assert np.isfinite(encoder.encode([image] * 9)).all()
