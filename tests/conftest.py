"""Fixtures shared by all tests."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import random
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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


@functools.cache
def _seed_of_the_sources() -> int:
    """Return a number that each version of the package has for itself.

    So every change meets fresh random inputs, and a run of the same version repeats.
    """
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "src").rglob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:4], "big")


@pytest.fixture
def seed() -> int:
    """Return the seed of all random inputs; NAPARI_EMBED_SEED sets another one."""
    seed = int(os.environ.get("NAPARI_EMBED_SEED", _seed_of_the_sources()))
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
