"""The bundled sample of real images."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


def load_sample() -> dict[str, np.ndarray]:
    source = resources.files("napari_embed.data").joinpath("fashion_sample.npz")
    with (
        resources.as_file(source) as path,
        np.load(path, allow_pickle=False) as data,
    ):
        return dict(data)


def test_sample_holds_400_real_images_of_each_class() -> None:
    sample = load_sample()
    assert sample["images"].shape == (4000, 28, 28)
    assert sample["images"].dtype == np.uint8
    assert sample["labels"].dtype == np.int64
    assert np.bincount(sample["labels"]).tolist() == [400] * 10
    assert sample["label_names"].dtype.kind == "U"
    assert sample["label_names"].shape == (10,)
    # Real pictures: every one differs from every other and none is blank.
    flat = sample["images"].reshape(4000, -1)
    assert len(np.unique(flat, axis=0)) > 3990
    assert (flat.std(axis=1) > 1).all()


def test_sample_and_licence_are_small_enough_to_ship() -> None:
    folder = resources.files("napari_embed.data")
    assert len(folder.joinpath("fashion_sample.npz").read_bytes()) < 3_000_000
    text = folder.joinpath("README.md").read_text(encoding="utf-8")
    assert "Zalando" in text
    assert "Permission is hereby granted, free of charge" in text


def test_script_reads_idx_files(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    labels = (np.arange(50) % 10).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(">HBB", 0, 8, array.ndim)
        header += struct.pack(f">{array.ndim}I", *array.shape)
        with gzip.open(tmp_path / f"t10k-{name}-ubyte.gz", "wb") as stream:
            stream.write(header + array.tobytes())
    output = tmp_path / "sample.npz"
    script = REPOSITORY / "scripts/make_sample.py"
    subprocess.run(
        [sys.executable, script, tmp_path, "--output", output, "--per-class", "3"],
        check=True,
        capture_output=True,
    )
    with np.load(output, allow_pickle=False) as data:
        assert np.array_equal(data["images"], images[:30])
        assert data["labels"].tolist() == (list(range(10)) * 3)


def test_script_gives_the_shipped_sample(shared_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "sample.npz"
    subprocess.run(
        [
            sys.executable,
            REPOSITORY / "scripts/make_sample.py",
            shared_data / "fashion10k_test.npz",
            "--output",
            output,
        ],
        check=True,
        capture_output=True,
    )
    shipped = load_sample()
    with np.load(output, allow_pickle=False) as made:
        for name, array in shipped.items():
            assert np.array_equal(made[name], array), name
