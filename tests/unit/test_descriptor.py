"""The default encoder, its PCA and the batches it runs in."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from napari_embed.encoders import load_encoder
from napari_embed.encoders.descriptor import (
    CELLS,
    DIM,
    ORIENTATIONS,
    SIZE,
    DescriptorFeatures,
    _unit,
)
from napari_embed.encoders.reduction import (
    PrincipalComponents,
    fit_principal_components,
)
from napari_embed.errors import InputError, ModelError


def random_images(rng: np.random.Generator, n: int, size: int = 40) -> list[np.ndarray]:
    """Smooth random pictures of random shapes, grey and in colour."""
    images = []
    for _ in range(n):
        h, w = rng.integers(8, size, 2)
        channels = int(rng.choice([1, 3]))
        small = rng.integers(0, 256, (4, 4, channels), dtype=np.uint8)
        image = np.kron(small, np.ones((h // 4 + 1, w // 4 + 1, 1)))[:h, :w]
        images.append(image.astype(np.uint8))
    return images


def knn_accuracy(vectors: np.ndarray, labels: np.ndarray, n: int, k: int = 10) -> float:
    """Share of right majority votes of k neighbors among the first n, by cosine."""
    similarity = vectors[n:] @ vectors[:n].T
    nearest = np.argpartition(-similarity, k, axis=1)[:, :k]
    votes = np.array([np.bincount(row).argmax() for row in labels[:n][nearest]])
    return float((votes == labels[n:]).mean())


def cifar_sample(
    archive: Path, n: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """n pictures of CIFAR-10's training set, drawn at random."""
    chosen = set(rng.choice(50_000, n, replace=False).tolist())
    images, labels, classes, seen = [], [], {}, 0
    with tarfile.open(archive, "r|xz") as stream:
        for member in stream:
            parts = member.name.split("/")
            if not member.isfile() or parts[1] != "train":
                continue
            if seen in chosen:
                image = Image.open(stream.extractfile(member)).convert("RGB")
                images.append(np.asarray(image))
                labels.append(classes.setdefault(parts[2], len(classes)))
            seen += 1
    order = rng.permutation(len(images))
    return [images[i] for i in order], np.array(labels)[order]


def test_fashion_neighbors_have_the_same_label(
    fashion10k: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = fashion10k
    rows = np.random.default_rng(0).permutation(len(images))[:6000]
    encoder = load_encoder("descriptor")
    encoder.fit(images[rows[:5000]])
    accuracy = knn_accuracy(encoder.encode(images[rows]), labels[rows], 5000)
    print(f"Fashion-MNIST 10-NN accuracy of the descriptor: {accuracy:.3f}")
    assert accuracy >= 0.86


def test_cifar_neighbors_have_the_same_label(
    shared_data: Path, rng: np.random.Generator
) -> None:
    archive = shared_data / "cifar10_jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip("CIFAR-10 is not here")
    images, labels = cifar_sample(archive, 6000, rng)
    encoder = load_encoder("descriptor")
    encoder.fit(images[:5000])
    accuracy = knn_accuracy(encoder.encode(images), labels, 5000)
    print(f"CIFAR-10 10-NN accuracy of the descriptor: {accuracy:.3f}")
    assert accuracy >= 0.48


def exact_gradients(picture: np.ndarray) -> np.ndarray:
    """Orientation histograms of a (3, 32, 32) picture in float64, by definition."""
    x = picture.astype(np.float64) / 255
    y = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    votes = np.zeros((ORIENTATIONS, CELLS, CELLS))
    step = SIZE / CELLS
    for r in range(SIZE):
        for c in range(SIZE):
            gx = y[:, r + 1, c + 2] - y[:, r + 1, c]
            gy = y[:, r + 2, c + 1] - y[:, r, c + 1]
            channel = int((gx**2 + gy**2).argmax())
            length = math.hypot(gx[channel], gy[channel])
            angle = math.atan2(gy[channel], gx[channel])
            for o in range(ORIENTATIONS):
                vote = max(0.0, math.cos(2 * angle - 2 * math.pi * o / ORIENTATIONS))
                for i in range(CELLS):
                    wi = 1 - abs(r + 0.5 - (i + 0.5) * step) / step
                    if wi <= 0:
                        continue
                    for j in range(CELLS):
                        wj = 1 - abs(c + 0.5 - (j + 0.5) * step) / step
                        if wj > 0:
                            votes[o, i, j] += vote**8 * length * wi * wj / step**2
    energy = np.pad((votes**2).sum(0), 1, mode="edge")
    around = sum(
        energy[i : i + CELLS, j : j + CELLS] for i in range(3) for j in range(3)
    )
    return np.sqrt(votes / np.sqrt(around + 0.1)).ravel()


def test_gradients_match_their_definition(rng: np.random.Generator) -> None:
    pictures = rng.integers(0, 256, (3, 3, SIZE, SIZE), dtype=np.uint8)
    pictures[1, :, 8:24] = 40  # flat areas, where the orientation is not defined
    pictures[2, :, :, 16:] = 255
    features = DescriptorFeatures(torch.device("cpu"))
    found = features._gradients(torch.from_numpy(pictures).float() / 255).numpy()
    for row, picture in enumerate(pictures):
        assert np.allclose(found[row], exact_gradients(picture), atol=2e-3)


def test_a_negative_has_the_same_gradients(rng: np.random.Generator) -> None:
    pictures = rng.random((4, 3, SIZE, SIZE), dtype=np.float32)
    features = DescriptorFeatures(torch.device("cpu"))
    x = torch.from_numpy(pictures)
    assert torch.allclose(features._gradients(x), features._gradients(1 - x), atol=1e-3)


def test_constant_and_extreme_images_give_finite_vectors(
    rng: np.random.Generator,
) -> None:
    images = random_images(rng, 150)
    images += [np.full((9, 13, 3), value, np.uint8) for value in (0, 1, 128, 255)]
    images += [np.zeros((1, 1, 3), np.uint8), np.zeros((1, 3000, 3), np.uint8)]
    images += [np.tile(np.uint8([[0, 255], [255, 0]]), (16, 16))]
    encoder = load_encoder("descriptor")
    encoder.fit(images)
    vectors = encoder.encode(images)
    assert encoder.failures == {}
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_identical_images_give_finite_vectors() -> None:
    images = [np.full((20, 20, 3), 7, np.uint8)] * 5
    encoder = load_encoder("descriptor")
    encoder.fit(images)
    assert np.isfinite(encoder.encode(images)).all()
    assert np.isfinite(encoder.encode([np.zeros((4, 4), np.uint8)])).all()


@pytest.mark.parametrize("n", [1, 2, 17])
def test_few_images_keep_the_dimension(n: int, rng: np.random.Generator) -> None:
    images = random_images(rng, n)
    encoder = load_encoder("descriptor")
    assert encoder.dim == DIM
    encoder.fit(images)
    vectors = encoder.encode(images)
    assert vectors.shape == (n, DIM)
    assert np.isfinite(vectors).all()
    # A sample of n spans n - 1 directions; the rest stays zero.
    assert np.count_nonzero(np.abs(encoder.state()["components"]).sum(1)) <= n - 1
    assert not vectors[:, n:].any()


def test_grey_images_are_the_same_in_every_form(rng: np.random.Generator) -> None:
    grey = [image for image in random_images(rng, 60) if image.shape[2] == 1]
    encoder = load_encoder("descriptor")
    encoder.fit(grey)
    expected = encoder.encode(grey)
    assert np.array_equal(encoder.encode([g[..., 0] for g in grey]), expected)
    assert np.array_equal(encoder.encode([np.repeat(g, 3, 2) for g in grey]), expected)


def test_images_without_a_vector_are_named(rng: np.random.Generator) -> None:
    good = random_images(rng, 6)
    images = [
        good[0],
        good[1].astype(np.float32),
        good[2],
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        None,
        good[3],
    ]
    encoder = load_encoder("descriptor")
    encoder.fit(images)
    vectors = encoder.encode(images)
    assert sorted(encoder.failures) == [1, 3, 4, 5]
    assert "float32" in encoder.failures[1]
    assert "(5, 5, 4)" in encoder.failures[3]
    assert "empty" in encoder.failures[4]
    assert "NoneType" in encoder.failures[5]
    assert np.array_equal(
        np.isnan(vectors).all(1), [r in (1, 3, 4, 5) for r in range(7)]
    )
    encoder.encode(good)
    assert encoder.failures == {}


def test_nothing_to_encode_and_nothing_to_fit() -> None:
    encoder = load_encoder("descriptor")
    with pytest.raises(InputError, match="none of the images"):
        encoder.fit([np.zeros((0, 1, 3), np.uint8)])
    with pytest.raises(ModelError, match="not fitted"):
        encoder.encode([])
    encoder.fit([np.zeros((4, 4, 3), np.uint8)])
    assert encoder.encode([]).shape == (0, DIM)


def test_results_do_not_depend_on_the_batches(rng: np.random.Generator) -> None:
    images = random_images(rng, 130)
    whole = load_encoder("descriptor", batch_size=130)
    whole.fit(images)
    expected = whole.encode(images)
    for batch_size in (1, 7, 64):
        encoder = load_encoder("descriptor", batch_size=batch_size)
        encoder.load_state(whole.state())
        difference = np.abs(encoder.encode(images) - expected).max()
        print(f"batches of {batch_size}: largest difference {difference:.1e}")
        assert difference < 1e-5


def test_the_same_run_gives_the_same_bits(rng: np.random.Generator) -> None:
    images = random_images(rng, 300)
    first, second = load_encoder("descriptor"), load_encoder("descriptor")
    first.fit(images)
    second.fit(images)
    for name, array in first.state().items():
        assert array.dtype == np.float32
        assert np.array_equal(array, second.state()[name])
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_encoder("descriptor", random_state=1).fingerprint
    assert first.encode(images).tobytes() == second.encode(images).tobytes()
    # Whatever was encoded before: a resumed run repeats the bits of an unbroken one.
    assert first.encode(images).tobytes() == second.encode(images).tobytes()


def test_fit_reads_no_more_images_than_it_needs(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    class Counting(list):
        reads = 0

        def __getitem__(self, row: int) -> np.ndarray:
            self.reads += 1
            return super().__getitem__(row)

    encoder = load_encoder("descriptor", random_state=3)
    object.__setattr__(encoder._recipe, "fit_size", 20)
    images = Counting(random_images(rng, 90))
    encoder.fit(images)
    assert encoder.fit_size == images.reads == 20


def test_state_is_checked(rng: np.random.Generator) -> None:
    encoder = load_encoder("descriptor")
    encoder.fit(random_images(rng, 140))
    good = encoder.state()
    bad_values = good["mean"].copy()
    bad_values[3] = np.inf
    for state in (
        {},
        {"mean": good["mean"]},
        good | {"mean": good["mean"][:-1]},
        good | {"mean": bad_values},
        good | {"components": good["components"].astype(np.int64)},
        good | {"components": good["components"].astype(object)},
    ):
        with pytest.raises(ModelError, match="Fit it again"):
            encoder.load_state(state)
    encoder.load_state(good)


def test_components_are_those_of_an_exact_pca(rng: np.random.Generator) -> None:
    scales = np.geomspace(1, 0.05, 40)
    features = (rng.normal(size=(500, 40)) * scales + 3).astype(np.float32)
    found = fit_principal_components(features, dim=10)
    exact = PCA(10, svd_solver="full").fit(features.astype(np.float64))
    assert np.allclose(
        np.abs(found.components @ exact.components_.T), np.eye(10), atol=1e-4
    )
    largest = np.abs(found.components).argmax(1)
    assert (found.components[np.arange(10), largest] > 0).all()
    assert np.allclose(found.mean, features.mean(0, dtype=np.float64), atol=1e-6)


def test_components_of_more_dimensions_than_features(rng: np.random.Generator) -> None:
    features = rng.normal(size=(50, 6)).astype(np.float32)
    found = fit_principal_components(features, dim=9)
    assert found.components.shape == (9, 6)
    assert not found.components[6:].any()
    again = PrincipalComponents.from_state(found.state(), features=6, dim=9)
    assert np.array_equal(again.components, found.components)


def test_unit_of_zero_is_zero() -> None:
    assert not _unit(torch.zeros(2, 5)).any()
