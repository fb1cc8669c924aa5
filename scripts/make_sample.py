"""Build the bundled sample of real images from the Fashion-MNIST test set.

Usage::

    python scripts/make_sample.py SOURCE [--output FILE] [--per-class 400]

``SOURCE`` is either the folder with the ``t10k-*.gz`` files (Debian's package
``dataset-fashion-mnist`` puts them in ``/usr/share/datasets/fashion-mnist``) or an
``.npz`` file with arrays ``images`` (n, 28, 28) uint8 and ``labels`` (n,). The result
is the same for both: the first images of each class, in the order of the test set.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LABEL_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEFAULT_OUTPUT = (
    Path(__file__).resolve().parent.parent / "src/napari_embed/data/fashion_sample.npz"
)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one gzip-compressed idx file of unsigned bytes."""
    with gzip.open(path, "rb") as stream:
        content = stream.read()
    zero, kind, ndim = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != 0x08:
        raise SystemExit(f"{path} is not an idx file of unsigned bytes.")
    shape = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def read_source(source: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (n, 28, 28) and labels (n,) of the test set."""
    if source.is_dir():
        images = read_idx(source / "t10k-images-idx3-ubyte.gz")
        labels = read_idx(source / "t10k-labels-idx1-ubyte.gz")
    else:
        with np.load(source, allow_pickle=False) as data:
            images, labels = data["images"], data["labels"]
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(labels) != len(images):
        raise SystemExit(
            f"Expected (n, 28, 28) images and n labels, found {images.shape} and "
            f"{labels.shape}."
        )
    return images, labels.astype(np.int64)


def main() -> None:
    """Write the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--per-class", type=int, default=400)
    options = parser.parse_args()
    images, labels = read_source(options.source)
    chosen = np.sort(
        np.concatenate(
            [
                np.flatnonzero(labels == c)[: options.per_class]
                for c in range(len(LABEL_NAMES))
            ]
        )
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.output,
        images=np.ascontiguousarray(images[chosen]),
        labels=labels[chosen],
        label_names=np.array(LABEL_NAMES),
    )
    size = options.output.stat().st_size
    print(f"{len(chosen)} images, {size} bytes: {options.output}")  # noqa: T201


if __name__ == "__main__":
    main()
