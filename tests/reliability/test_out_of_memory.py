"""Running out of memory is not the end: batches shrink, grow again, results stay."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_embed.encoders import load_encoder
from napari_embed.encoders.batched import BatchedEncoder
from napari_embed.encoders.batches import AdaptiveBatches, is_out_of_memory
from napari_embed.errors import ComputeError, JobCancelled

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 1 bytes."
    ),
    MemoryError(),
    MemoryError("Unable to allocate 9 GiB for an array"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: str(e)[:40] or "empty")
def test_every_kind_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory lane"))


def test_sizes_halve_to_one_and_grow_after_twenty_good_batches() -> None:
    batches = AdaptiveBatches(16, 16)
    tried: list[int] = []

    def forward(start: int, stop: int) -> None:
        tried.append(stop - start)
        if start == 0 and stop > 1:
            raise MemoryError

    assert batches.run(1 + 20 + 40, forward) == {}
    assert tried[:5] == [16, 8, 4, 2, 1]
    assert tried[5:24] == [1] * 19
    assert tried[24:44] == [2] * 20
    assert tried[44:] == [1]
    assert batches.size == 4


def test_growth_by_trial_ends_at_the_first_shortage() -> None:
    batches = AdaptiveBatches(32, 1024)
    tried: list[int] = []

    def forward(start: int, stop: int) -> None:
        tried.append(stop - start)
        if stop - start > 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert batches.run(4000, forward) == {}
    assert tried[:6] == [32, 64, 128, 256, 128, 128]
    assert tried.count(256) == 2  # once more after 20 good batches
    assert sum(n for n in tried if n <= 200) == 4000


def test_an_image_that_never_fits_is_named_and_the_rest_goes_on() -> None:
    batches = AdaptiveBatches(8, 8)
    done: list[int] = []

    def forward(start: int, stop: int) -> None:
        if start <= 5 < stop:
            raise RuntimeError("CUDA out of memory. Tried to allocate 99 GiB")
        done.extend(range(start, stop))

    failures = batches.run(20, forward)
    assert list(failures) == [5]
    assert "even alone" in failures[5]
    assert "99 GiB" in failures[5]
    assert done == [i for i in range(20) if i != 5]


def test_other_errors_and_cancelling_pass_through() -> None:
    def wrong(start: int, stop: int) -> None:
        raise RuntimeError("shapes do not fit")

    def cancel(done: int, total: int) -> None:
        raise JobCancelled("stop")

    with pytest.raises(ComputeError, match="shapes do not fit"):
        AdaptiveBatches(4, 4).run(9, wrong)
    with pytest.raises(JobCancelled):
        AdaptiveBatches(4, 4).run(9, lambda start, stop: None, progress=cancel)


def inject(
    encoder: BatchedEncoder, rng: np.random.Generator, share: float
) -> list[int]:
    """Let a share of the batches run out of memory; return the sizes that did."""
    features, hit = encoder._recipe.features, []

    def faulty(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 1 and rng.random() < share:
            hit.append(len(pixels))
            raise OUT_OF_MEMORY[int(rng.integers(len(OUT_OF_MEMORY)))]
        return features(pixels)

    object.__setattr__(encoder._recipe, "features", faulty)
    return hit


def test_100_shortages_change_no_vector(rng: np.random.Generator) -> None:
    images = list(rng.integers(0, 256, (400, 16, 16, 3), dtype=np.uint8))
    calm = load_encoder("descriptor", batch_size=16)
    calm.fit(images[:200])
    expected = calm.encode(images)
    shaken = load_encoder("descriptor", batch_size=16)
    shaken.load_state(calm.state())
    hit = inject(shaken, rng, 0.3)
    rounds, worst = 0, 0.0
    gc.freeze()  # every shortage collects garbage: leave out what pytest holds
    try:
        while len(hit) < 100:
            vectors = shaken.encode(images)
            assert shaken.failures == {}
            worst = max(worst, float(np.abs(vectors - expected).max()))
            rounds += 1
    finally:
        gc.unfreeze()
    print(f"{len(hit)} shortages in {rounds} runs, largest difference {worst:.1e}")
    assert worst < 1e-5


def test_an_image_that_never_fits_is_a_row_of_nan(rng: np.random.Generator) -> None:
    images = list(rng.integers(1, 255, (40, 16, 16, 3), dtype=np.uint8))
    images[17] = np.zeros((16, 16, 3), np.uint8)
    images[30] = np.zeros((16, 16), np.float64)
    encoder = load_encoder("descriptor", batch_size=8)
    encoder.fit(images)
    features = encoder._recipe.features

    def faulty(pixels: torch.Tensor) -> torch.Tensor:
        if (pixels.amax((1, 2, 3)) == 0).any():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return features(pixels)

    object.__setattr__(encoder._recipe, "features", faulty)
    vectors = encoder.encode(images)
    assert sorted(encoder.failures) == [17, 30]
    assert "even alone" in encoder.failures[17]
    assert np.flatnonzero(np.isnan(vectors).any(1)).tolist() == [17, 30]


REAL_SHORTAGE = """
import json, resource, sys
import numpy as np
import torch
torch.set_num_threads(1)
from napari_embed.encoders import load_encoder
images = np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), dtype=np.uint8)
small = load_encoder("descriptor", batch_size=16)
small.fit(images[:200])
expected = small.encode(images)
large = load_encoder("descriptor", batch_size=2048)
large.load_state(small.state())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000, -1))
vectors = large.encode(images)
print(json.dumps({
    "size": large.batches.size,
    "failures": len(large.failures),
    "difference": float(np.abs(vectors - expected).max()),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_real_shortage_on_the_cpu() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", REAL_SHORTAGE],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    print(found)
    assert found["failures"] == 0
    assert 1 <= found["size"] < 2048
    assert found["difference"] < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_shortage_on_a_gpu(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (20_000, 32, 32, 3), dtype=np.uint8)
    encoder = load_encoder("descriptor", device="cuda")
    encoder.fit(images[:500])
    expected = encoder.encode(images)
    limited = load_encoder("descriptor", device="cuda", batch_size=20_000)
    limited.load_state(encoder.state())
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 600e6 / total))
    try:
        vectors = limited.encode(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert limited.failures == {}
    assert limited.batches.size < 20_000
    assert np.abs(vectors - expected).max() < 1e-3
