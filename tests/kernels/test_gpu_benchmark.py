"""The GPU benchmark runs to its end, on the CPU and with tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/bench_tsne_gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_every_part_runs_and_is_saved(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--smoke", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "tsne_gpu_smoke.json").read_text())["results"]
    assert set(results) == {"correctness", "fashion", "speed", "profile"}
    forces = results["correctness"]["forces"]
    assert forces["2D theta 0"]["force_error"] < 1e-5
    assert forces["3D theta 0"]["force_error"] < 1e-5
    assert all(found["force_error"] < 0.05 for found in forces.values())
    assert all(found["z_error"] < 0.005 for found in forces.values())
    for found in results["correctness"]["maps"].values():
        assert found["same_bits_again"]
        assert abs(found["from_cpu"]) < 1e-6
    for name in ("3000 2D 60", "3000 3D 60"):
        found = results["speed"][name]
        assert found["iterations"] == 60
        assert found["stages"]["calls_in_a_plain_iteration"] <= 6
    assert results["profile"]["ok"]
    assert "step" in results["profile"]["table"]


def test_what_does_not_fit_the_budget_is_left_out_and_said(tmp_path: Path) -> None:
    done = run(
        "--device", "cpu", "--smoke", "--results", str(tmp_path), "--budget", "0",
        "--parts", "speed", "profile",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "tsne_gpu_smoke.json").read_text())["results"]
    assert all("left_out" in found for found in results["speed"].values())
    assert "left_out" in results["profile"]


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run()
    assert done.returncode != 0
    assert "no usable NVIDIA GPU" in done.stderr
    assert "Traceback" not in done.stderr
