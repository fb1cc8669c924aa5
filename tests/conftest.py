"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 1953011750


_OPERATORS: list[object] = []


def _define_missing_torchvision_operators() -> None:
    """Let torchvision's models import beside a CPU-only torch of another build.

    A torchvision wheel built for CUDA registers no operators beside a CPU torch, and
    its import then fails on two names. Tests only: the product imports torchvision
    lazily and explains.
    """
    import torch

    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        try:
            # Operators vanish with their library object, so it is kept.
            _OPERATORS.append(torch.library.Library("torchvision", "FRAGMENT"))
            _OPERATORS[-1].define(schema)
        except RuntimeError:
            return


@pytest.fixture(scope="session")
def torchvision_importable() -> None:
    """Make ``import torchvision`` work, or skip."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        import sys

        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        _define_missing_torchvision_operators()
        pytest.importorskip("torchvision", exc_type=Exception)


@pytest.fixture(autouse=True)
def _log_level_as_it_was() -> None:
    """Undo what a run of the command line in this process says about logging."""
    logging.getLogger("napari_embed").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets, or skip."""
    folder = Path(
        os.environ.get("NAPARI_EMBED_SHARED_DATA", REPOSITORY.parent / "shared/data")
    )
    if not (folder / "fashion10k_test.npz").is_file():
        pytest.skip("the real data sets are not here (NAPARI_EMBED_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def fashion10k(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's 10,000 test images (uint8) and labels."""
    with np.load(shared_data / "fashion10k_test.npz", allow_pickle=False) as data:
        return data["images"], data["labels"]


@pytest.fixture
def seed() -> int:
    """Return the seed of all random inputs.

    A run repeats, so that a failure is one of the change that was made;
    NAPARI_EMBED_SEED sets another seed, "fresh" draws one.
    """
    wish = os.environ.get("NAPARI_EMBED_SEED", SEED)
    seed = np.random.SeedSequence().entropy % 2**32 if wish == "fresh" else int(wish)
    print(f"NAPARI_EMBED_SEED={seed}")
    return seed


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Return random numbers whose seed is printed when a test fails."""
    return np.random.default_rng(seed)


@pytest.fixture
def chance(seed: int) -> random.Random:
    """Return random moments, the same again with the same seed."""
    return random.Random(seed)
