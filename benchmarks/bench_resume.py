"""Kill -9 a run over 60,000 JPEG files three times: what it costs, and that it heals.

    python benchmarks/bench_resume.py --archive cifar10_jpeg.tar.xz

CIFAR-10 as a folder of files is embedded twice: once without a break, once killed with
SIGKILL at random moments and resumed. Counted are the images that were encoded and
had to be encoded again, per kill; compared is every byte of vectors, thumbnails and of
what the encoder learned. Results go to ``benchmarks/results/resume_cifar10.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from _record import moment, record
from napari_embed.engine import pipeline
from napari_embed.engine.progress import JobControl, Progress
from napari_embed.params import EmbedParams
from napari_embed.project import Project
from napari_embed.sources import detect_source

RESULTS = ("embeddings", "thumbnails", "encoders")


def work(path: Path, encoder: str) -> None:
    """Embed, printing after each batch how many images are encoded."""

    def show(progress: Progress) -> None:
        if progress.stage == "images":
            print(progress.done, flush=True)

    control = JobControl(show, interval_s=0)
    with Project.open(path, mode="a") as project:
        result = pipeline.run_embed(project, EmbedParams(encoder=encoder), control)
    print(f"encoded {result.n_done_now}", flush=True)


def life(path: Path, encoder: str, kill_at: int | None, pause_s: float) -> dict:
    """Run the embedding in a process of its own, up to its end or to a kill.

    The kill comes ``pause_s`` seconds after ``kill_at`` images are encoded.
    """
    command = [sys.executable, __file__, "--work", str(path), "--encoder", encoder]
    started = time.perf_counter()
    counts: list[int] = []
    encoded = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("encoded"):
                encoded = int(line.split()[1])
                continue
            counts.append(int(line))
            if kill_at is not None and counts[-1] >= kill_at:
                time.sleep(pause_s)
                child.kill()
                kill_at = None
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"exit_code": child.returncode, "seconds": seconds}
    with Project.open(path) as project:
        damaged = project.verify()
        stage = project.stage_info(f"embeddings/{encoder}")
        found |= {"chunks_done": stage.chunks_done, "damaged": len(damaged)}
    return found | {"began_at": counts[0], "ended_at": counts[-1], "encoded": encoded}


def digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the results."""
    files = [p for kind in RESULTS for p in sorted((path / kind).rglob("*"))]
    return {
        p.relative_to(path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.is_file()
    }


def measure(
    folder: Path, work_folder: Path, encoder: str, kills: int, seed: int
) -> None:
    """Embed a folder with and without kills, compare and record."""
    chance = random.Random(seed)
    whole, broken = work_folder / "whole.embed", work_folder / "broken.embed"
    for path in (whole, broken):
        pipeline.run_create(path, detect_source(folder), JobControl())
    with Project.open(whole) as project:
        n, rows = project.n_items, project.chunk_rows
    unbroken = life(whole, encoder, None, 0)
    moments = sorted(chance.randrange(n // 20, n * 19 // 20) for _ in range(kills))
    lives = [life(broken, encoder, at, chance.uniform(0, 0.3)) for at in moments]
    lives.append(life(broken, encoder, None, 0))
    pairs = itertools.pairwise(lives)
    repeated = [before["ended_at"] - after["began_at"] for before, after in pairs]
    first, second = digests(whole), digests(broken)
    found = {
        "images": n, "rows_per_batch": rows, "unbroken": unbroken, "lives": lives,
        "images_encoded_again": repeated, "files_compared": len(first),
        "files_that_differ": sum(first.get(k) != v for k, v in second.items())
        + len(first.keys() ^ second.keys()),
        "at_most_one_batch_per_kill": max(repeated) <= rows,
        **moment(),
    }  # fmt: skip
    print(found)
    record(
        "resume_cifar10",
        found,
        settings={"encoder": encoder, "kills": kills, "seed": seed, "signal": "KILL"},
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, default=Path("cifar10_jpeg.tar.xz"))
    parser.add_argument("--encoder", default="descriptor")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.encoder)
        return
    with tempfile.TemporaryDirectory(prefix="napari-embed-") as name:
        with tarfile.open(options.archive) as tar:
            tar.extractall(Path(name) / "images", filter="data")
        folder = Path(name) / "images"
        measure(folder, Path(name), options.encoder, options.kills, options.seed)


if __name__ == "__main__":
    main()
