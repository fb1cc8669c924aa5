"""Kill -9 a writer at random instants: nothing finished is lost, nothing is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_embed.project import Project
from napari_embed.sources import SourceSpec

KILLS = int(os.environ.get("NAPARI_EMBED_KILLS", "20"))
N, ROWS = 1000, 16
WRITER = Path(__file__).with_name("store_writer.py")


def make_project(folder: Path, name: str) -> Path:
    np.save(folder / "vectors.npy", np.zeros((N, 2), np.float32))
    spec = SourceSpec("vectors", str(folder / "vectors.npy"))
    path = folder / f"{name}.embed"
    Project.create(path, spec, thumbnail_size=16, chunk_rows=ROWS).close()
    return path


def array_files(path: Path) -> dict[str, bytes]:
    """Return every byte that belongs to a result."""
    kinds = ("thumbnails", "embeddings", "neighbors", "projections")
    files = [p for kind in kinds for p in sorted((path / kind).rglob("*"))]
    return {
        p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.is_file()
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_killed_writers_lose_at_most_a_chunk_each(tmp_path, rng):
    unbroken = make_project(tmp_path, "unbroken")
    subprocess.run([sys.executable, WRITER, unbroken], capture_output=True, check=True)

    broken = make_project(tmp_path, "broken")
    written, phases = 0, []
    for kill in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, WRITER, broken], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        # First into the chunks, then into the swapping of whole results.
        in_results = kill >= KILLS * 0.6
        last = "sealed" if in_results else str(rng.integers(0, 12) + written)
        for line in process.stdout:
            written += line.strip() != "sealed"
            if line.strip() in (last, "sealed"):
                break
        time.sleep(float(rng.random() * (0.3 if in_results else 0.03)))
        process.send_signal(signal.SIGKILL)
        written += sum(line.strip() != "sealed" for line in process.stdout)
        process.wait()
        process.stdout.close()
        with Project.open(broken) as project:
            assert project.verify() == []
            check_finished_chunks(project)
            phases.append({s.key: s.state for s in project.stages()})
    subprocess.run([sys.executable, WRITER, broken], check=True, capture_output=True)
    print(json.dumps({"kills": KILLS, "chunks_written": written, "states": phases}))

    assert array_files(broken) == array_files(unbroken)
    with Project.open(broken) as project, Project.open(unbroken) as other:
        assert project.verify() == []
        assert {s.key: s.state for s in project.stages()} == {
            s.key: "sealed" for s in other.stages()
        }
        assert project.errors().equals(other.errors())
        bad = np.isnan(project.embeddings("own")[:]).any(axis=1)
        assert project.errors()["id"].to_pylist() == np.flatnonzero(bad).tolist()
    chunks = -(-N // ROWS)
    assert chunks <= written <= chunks + KILLS
    assert not (broken / ".staging").exists()


def check_finished_chunks(project: Project) -> None:
    """Every chunk the ledger calls finished holds exactly the right values."""
    sys.path.insert(0, str(WRITER.parent))
    try:
        from store_writer import vectors_of
    finally:
        sys.path.pop(0)
    if project.stage_info("embeddings/own").chunks_done == 0:
        return
    stored = project.embeddings("own", partial=True)[:]
    known = np.isfinite(stored).all(axis=1)
    np.testing.assert_array_equal(stored[known], vectors_of(np.flatnonzero(known)))
    assert known.any()


HANG = """
import sys, time
from napari_embed.project import Project
from napari_embed.project.ledger import Ledger
from napari_embed.sources import SourceSpec

def hang(root):
    print(root, flush=True)
    time.sleep(60)

Ledger.create = hang
Project.create(sys.argv[1], SourceSpec("vectors", sys.argv[2]))
"""


def test_what_a_killed_new_left_is_removed_by_the_next(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((9, 3), np.float32))
    # The system counts bytes: 228 of them here, in 80 characters.
    target = tmp_path / ("\u56fe" * 74 + ".embed")
    command = [sys.executable, "-c", HANG, str(target), str(tmp_path / "v.npy")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        spec = SourceSpec("vectors", str(tmp_path / "v.npy"))
        Project.create(target, spec).close()
        assert left.is_dir()  # its process runs: not ours to touch
        process.kill()
    assert (left / "items.parquet").is_file()
    pid = f"-{process.pid}-"
    foreign = [
        left.with_name(left.name.replace(left.name.split(".")[-2][:8], "0" * 8)),
        left.with_name(left.name.replace(target.name[:20], "\u5716" * 20)),
        left.with_name(left.name.replace(pid, f"-{os.getpid()}-")),
        left.with_name(f".{target.name[:20]}.mine.partial"),
    ]
    for folder in foreign:
        folder.mkdir()
    target.rename(tmp_path / "first.embed")
    Project.create(target, spec).close()
    assert not left.exists()
    assert all(folder.is_dir() for folder in foreign)
