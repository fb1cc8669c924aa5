"""torchvision models: features, preprocessing, weights from files and downloads."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import types
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_embed.encoders import load_encoder, weights_cache
from napari_embed.encoders.catalogue import TORCHVISION_MODELS, TorchvisionModel
from napari_embed.encoders.preparation import crop_centre, prepare
from napari_embed.encoders.torchvision_models import (
    build_network,
    load_torchvision_encoder,
)
from napari_embed.errors import (
    InputError,
    MissingDependencyError,
    ModelError,
    UntrustedModelError,
)

MODELS = {m.model: m for m in TORCHVISION_MODELS}
SMALL = ["resnet18", "mobilenet_v3_large", "efficientnet_b0", "swin_t", "vit_b_32"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NAPARI_EMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def mobilenet(
    torchvision_importable: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Random weights of the smallest model, as a file."""
    from torchvision import models

    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.save(models.mobilenet_v3_large(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_features_are_what_the_classifier_sees(
    name: str, torchvision_importable: None, rng: np.random.Generator
) -> None:
    from torchvision import models

    model = MODELS[name]
    whole = models.get_model(name, weights=None).eval()
    network = build_network(model, whole.state_dict(), source="memory")
    shape = (1, 3, model.crop_size, model.crop_size)
    x = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    with torch.inference_mode():
        features = network(x)
        classes = whole.get_submodule(model.head)(features)
        assert features.shape == (1, model.dim)
        assert torch.allclose(classes, whole(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "resnet50"])
@pytest.mark.parametrize("shape", [(300, 400), (50, 40), (232, 232), (31, 117)])
def test_preprocessing_is_torchvisions(
    name: str,
    shape: tuple[int, int],
    torchvision_importable: None,
    rng: np.random.Generator,
) -> None:
    from torchvision import models

    model = MODELS[name]
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = models.get_model_weights(name).DEFAULT.transforms()
    expected = theirs(Image.fromarray(image))  # as in their training
    mean, std = torch.tensor(theirs.mean), torch.tensor(theirs.std)
    expected = (expected * std[:, None, None] + mean[:, None, None]) * 255

    def resize(pixels: torch.Tensor) -> torch.Tensor:
        return crop_centre(
            pixels, model.resize_size, model.crop_size, model.interpolation
        )

    found = prepare([image], resize, model.crop_size)[0].float()
    difference = (found - expected).abs()  # in grey levels: rounding only
    assert difference.max() < 2.01
    assert (difference > 1.01).float().mean() < 1e-3


def test_a_very_long_image_needs_little_memory() -> None:
    pixels = torch.zeros((1, 3, 4, 400_000), dtype=torch.uint8)
    assert crop_centre(pixels, 256, 224, "bilinear").shape == (1, 3, 224, 224)
    assert crop_centre(pixels.mT, 256, 224, "bilinear").shape == (1, 3, 224, 224)


def test_encoding_with_weights_from_a_file(
    mobilenet: Path, rng: np.random.Generator
) -> None:
    encoder = load_encoder("torchvision/mobilenet_v3_large", weights=mobilenet)
    images = [rng.integers(0, 256, (40, s, 3), dtype=np.uint8) for s in (40, 60, 41)]
    assert not encoder.needs_fit
    assert encoder.fit_size == 0
    encoder.fit(images)
    assert encoder.state() == {}
    vectors = encoder.encode([*images, np.zeros((3, 3))])
    assert vectors.shape == (4, encoder.dim)
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-4)
    assert list(encoder.failures) == [3]
    assert np.isnan(vectors[3]).all()


def test_fingerprint_follows_the_weights(mobilenet: Path, tmp_path: Path) -> None:
    tensors = torch.load(mobilenet, weights_only=True)
    tensors["features.0.0.weight"] += 1
    other = tmp_path / "other.pt"
    torch.save(tensors, other)
    name = "torchvision/mobilenet_v3_large"
    first = load_encoder(name, weights=mobilenet).fingerprint
    assert first == load_encoder(name, weights=mobilenet).fingerprint
    assert first != load_encoder(name, weights=other).fingerprint


def test_other_forms_of_the_same_weights(mobilenet: Path, tmp_path: Path) -> None:
    tensors = torch.load(mobilenet, weights_only=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    tuned = dict(tensors)
    tuned["classifier.3.weight"] = torch.zeros(7, 1280)
    tuned["classifier.3.bias"] = torch.zeros(7)
    for content in ({"state_dict": tensors, "epoch": 3}, half, tuned):
        torch.save(content, tmp_path / "w.pth")
        encoder = load_encoder(
            "torchvision/mobilenet_v3_large", weights=tmp_path / "w.pth"
        )
        vectors = encoder.encode([np.full((9, 9, 3), 50, np.uint8)])
        assert np.isfinite(vectors).all()


def test_safetensors(mobilenet: Path, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "weights.safetensors"
    save_file(torch.load(mobilenet, weights_only=True), path)
    image = [np.full((9, 9, 3), 50, np.uint8)]
    name = "torchvision/mobilenet_v3_large"
    expected = load_encoder(name, weights=mobilenet).encode(image)
    assert np.array_equal(load_encoder(name, weights=path).encode(image), expected)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_encoder(name, weights=path)


def test_weights_of_another_model(mobilenet: Path) -> None:
    with pytest.raises(ModelError, match=r"belong to another model.*missing.*unknown"):
        load_encoder("torchvision/resnet18", weights=mobilenet)


def test_weights_of_another_shape(mobilenet: Path, tmp_path: Path) -> None:
    tensors = torch.load(mobilenet, weights_only=True)
    tensors["features.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"of another shape.*\(16, 1, 3, 3\) instead"):
        load_encoder("torchvision/mobilenet_v3_large", weights=tmp_path / "w.pth")


def test_files_that_are_no_weights(
    torchvision_importable: None, tmp_path: Path
) -> None:
    name = "torchvision/resnet18"
    with pytest.raises(InputError, match="cannot be opened"):
        load_encoder(name, weights=tmp_path / "missing.pth")
    with pytest.raises(InputError, match="not a weights file"):
        load_encoder(name, weights=tmp_path / "model.onnx")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"cannot be opened|not a regular file"):
        load_encoder(name, weights=tmp_path / "folder.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no tensors by name"):
        load_encoder(name, weights=tmp_path / "list.pth")


def test_missing_torchvision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"napari-embed\[torchvision\]"):
        load_encoder("torchvision/resnet18")


def test_broken_torchvision_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("torchvision")

    def fail(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    broken.__getattr__ = fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "torchvision", broken)
    with pytest.raises(MissingDependencyError, match="does not work with torch"):
        load_encoder("torchvision/resnet18")


@pytest.fixture
def server(
    mobilenet: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, bytes]]:
    """A local server that gives the weights; cut short under /broken."""
    content = mobilenet.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            short = "broken" in self.path
            self.wfile.write(content[: len(content) // 2] if short else content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(
            weights_cache,
            "_open_url",
            lambda url: urllib.request.urlopen(
                url.replace("https://download.pytorch.org", base), timeout=10
            ),
        )
        yield base, content
        httpd.shutdown()
        thread.join()


def published(content: bytes) -> TorchvisionModel:
    """The catalogue entry, as if torchvision had published ``content``."""
    digest = hashlib.sha256(content).hexdigest()
    return replace(
        MODELS["mobilenet_v3_large"], file_name=f"mobilenet-{digest[:8]}.pth"
    )


def test_download_is_checked_pinned_and_reused(
    server: tuple[str, bytes], cache: Path
) -> None:
    model = published(server[1])
    seen: list[tuple[int, int]] = []
    load_torchvision_encoder(model, "cpu", None, None, lambda *p: seen.append(p))
    assert seen[-1] == (len(server[1]), len(server[1]))
    assert sorted(p.name for p in cache.iterdir()) == [model.file_name, "pins.json"]
    assert hashlib.sha256(server[1]).hexdigest() in (cache / "pins.json").read_text()
    seen.clear()
    load_torchvision_encoder(model, "cpu", None, None, lambda *p: seen.append(p))
    assert seen == []


def test_wrong_checksum_leaves_nothing(server: tuple[str, bytes], cache: Path) -> None:
    with pytest.raises(UntrustedModelError, match="5c1a4163"):
        load_encoder("torchvision/mobilenet_v3_large")
    assert list(cache.iterdir()) == []


def test_full_checksum_is_used_where_known(
    server: tuple[str, bytes], cache: Path
) -> None:
    model = published(server[1])
    digest = hashlib.sha256(server[1]).hexdigest()
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    with pytest.raises(UntrustedModelError):
        load_torchvision_encoder(replace(model, sha256=wrong), "cpu", None, None, None)
    load_torchvision_encoder(replace(model, sha256=digest), "cpu", None, None, None)


def test_a_file_that_changed_since_its_first_use_is_refused(
    server: tuple[str, bytes], cache: Path
) -> None:
    model = published(server[1])
    load_torchvision_encoder(model, "cpu", None, None, None)
    pins = cache / "pins.json"
    digest = hashlib.sha256(server[1]).hexdigest()
    forged = digest[:8] + "0" * 56  # another file with the same first 8 digits
    pins.write_text(pins.read_text().replace(digest, forged))
    with pytest.raises(UntrustedModelError, match="pinned"):
        load_torchvision_encoder(model, "cpu", None, None, None)
    pins.write_text("[]")
    with pytest.raises(ModelError, match="does not hold SHA-256"):
        load_torchvision_encoder(model, "cpu", None, None, None)


def test_broken_download_leaves_nothing(server: tuple[str, bytes], cache: Path) -> None:
    with pytest.raises(ModelError, match=r"broke off|could not be downloaded"):
        weights_cache.fetch(server[0] + "/broken", "x.pth", sha256_prefix="")
    assert list(cache.iterdir()) == []


def test_no_connection_is_explained(
    monkeypatch: pytest.MonkeyPatch, cache: Path, torchvision_importable: None
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ModelError, match=r"no route to host.*give its path as weights"):
        load_encoder("torchvision/resnet18")
    assert list(cache.iterdir()) == []


def test_only_https_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://host/x.pth", "file:///etc/passwd", "ftp://host/x.pth"):
        with pytest.raises(ModelError, match="https only"):
            weights_cache.fetch(url, "x.pth", sha256_prefix="")

    class Redirected:
        def geturl(self) -> str:
            return "http://elsewhere/x.pth"

        def close(self) -> None:
            pass

    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: Redirected())
    with pytest.raises(ModelError, match="without https"):
        weights_cache.fetch("https://host/x.pth", "x.pth", sha256_prefix="")
