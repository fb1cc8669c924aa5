"""Images per second by stage of embedding, and how good the estimate before it is.

Usage::

    python benchmarks/bench_embed.py [--data FOLDER] [--images 20000]

For several encoders and folders of images: decoding alone, the model alone (on images
in memory), and end to end in an engine process; the bar is that end to end is at
least 0.9 of the slower of the two. On a CPU both share the cores, so the bar is also
given for the time they would take one after the other. Then the estimate of
`napari-embed estimate` beside the time, disk and peak memory that the run had.
ViT-B/16 has random weights: only its speed is measured, beside the survey's figures.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from _record import moment, record
from napari_embed.encoders import load_encoder
from napari_embed.engine.client import EngineClient
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

SURVEY_VIT_CPU_S, SURVEY_VIT_GPU_S = 0.768, 0.019
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared/data"
BLOCK = 128
MEMORY_STEP_S = 0.02


def unpack(archive: Path, target: Path, most: int) -> Path:
    """Unpack up to ``most`` images of an archive, an equal share of each class."""
    with tarfile.open(archive) as stream:
        members = [m for m in stream if m.isfile()]
        members = members[:: max(1, len(members) // most)][:most]
        stream.extractall(target, members, filter="data")
    return target


def vit_weights(folder: Path) -> Path:
    """Save random weights of ViT-B/16."""
    import timm

    path = folder / "vit.pth"
    model = timm.create_model("vit_base_patch16_224", pretrained=False)
    torch.save(model.state_dict(), path)
    return path


def alone(folder: Path, encoder_name: str, weights: str | None, n: int) -> dict:
    """Return seconds per image of decoding alone and of the model alone."""
    source = open_and_list(folder)
    items = source[1].slice(0, n)
    detail = 256
    started = time.perf_counter()
    images = [i.image for i in source[0].read(items, shrink_to=detail)]
    decode_s = (time.perf_counter() - started) / len(images)
    encoder = load_encoder(encoder_name, device="auto", weights=weights)
    good = [image for image in images if image is not None]
    if encoder.needs_fit:
        encoder.fit(good[: encoder.fit_size])
    encoder.encode(good[:BLOCK])
    started = time.perf_counter()
    for start in range(0, len(good), BLOCK):
        encoder.encode(good[start : start + BLOCK])
    model_s = (time.perf_counter() - started) / len(good)
    return {"decode_s": decode_s, "model_s": model_s}


def open_and_list(folder: Path) -> tuple[Any, Any]:
    """Return a folder's source and its items."""
    from napari_embed.sources import open_source

    source = open_source(detect_source(folder))
    return source, source.list_items()


class Peak:
    """The most memory a process held, noted by a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(MEMORY_STEP_S):
            try:
                now = self._process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                return
            self.mib = max(self.mib, now)

    def end(self) -> float:
        """Return the peak in MiB."""
        self._ended.set()
        self._thread.join()
        return self.mib


def job(name: str, **arguments: Any) -> tuple[dict[str, Any], float]:
    """Run one job in an engine process of its own; return result and peak MiB."""
    client = EngineClient()
    client.start()
    try:
        assert client.pid is not None
        peak = Peak(client.pid)
        result = client.submit(name, lambda _: None, **arguments).wait()
        return result, peak.end()
    finally:
        client.close()


def case(
    title: str, folder: Path, encoder: str, weights: Path | None, n: int, work: Path
) -> dict[str, Any]:
    """Measure one encoder on one folder."""
    print(title, flush=True)
    path = work / f"{title.replace('/', '-').replace(' ', '-')}.embed"
    Project.create(path, detect_source(folder)).close()
    params = EmbedParams(encoder=encoder, weights=str(weights) if weights else None)
    arguments = {"path": str(path), "params": params.to_dict()}
    guess, _ = job("estimate", **arguments)
    with Project.open(path) as project:
        before = project.size_on_disk()
    started = time.perf_counter()
    result, peak = job("embed", **arguments)
    seconds = time.perf_counter() - started
    with Project.open(path) as project:
        disk = project.size_on_disk() - before
    single = alone(folder, encoder, params.weights, min(n, 2000))
    per_image = 1 / result["info"]["rate"]
    slower = max(single["decode_s"], single["model_s"])
    found = {
        "case": title, "encoder": encoder, "images": result["n_items"],
        "decode_s": single["decode_s"], "model_s": single["model_s"],
        "end_to_end_s": per_image,
        "share_of_the_slower": slower / per_image,
        "share_of_both_in_turn": (single["decode_s"] + single["model_s"]) / per_image,
        "job_s": result["seconds"], "run_s": seconds,
        "estimated_s": guess["seconds"], "trial_s": guess["trial_seconds"],
        "bottleneck": guess["bottleneck"],
        "disk_mib": disk / 2**20, "estimated_disk_mib": guess["disk_bytes"] / 2**20,
        "peak_mib": peak,
        "estimated_peak_mib": (guess["memory_bytes"] or np.nan) / 2**20,
        **moment(),
    }  # fmt: skip
    print(json.dumps(found, indent=1), flush=True)
    return found


def main() -> None:
    """Measure all cases that the machine and the data allow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--images", type=int, default=20_000)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        small = unpack(words.data / "cifar10_jpeg.tar.xz", work / "cifar", words.images)
        photos = unpack(words.data / "clothing_photos_120.tar", work / "clothing", 120)
        weights = vit_weights(work)
        found = [
            case("CIFAR-10, descriptor", small, "descriptor", None, 2000, work),
            case("CIFAR-10, lite0", small, "lite0", None, 2000, work),
            case("photographs, lite0", photos, "lite0", None, 120, work),
            case(
                "photographs, ViT-B/16", photos, "timm/vit_base_patch16_224", weights,
                120, work,
            ),
        ]  # fmt: skip
    vit = found[-1]
    record(
        "embed",
        {
            "cases": found,
            "vit_b_16": {
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "s_per_image": vit["end_to_end_s"], "model_s": vit["model_s"],
                "survey_cpu_s": SURVEY_VIT_CPU_S, "survey_gpu_s": SURVEY_VIT_GPU_S,
            },
        },
        settings={"images": words.images, "threads": torch.get_num_threads()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
