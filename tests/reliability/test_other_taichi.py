"""Beside another Taichi program: computed apart, to the same bits, nothing harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_embed
from napari_embed.errors import DeviceLostError
from napari_embed.params import ProjectionParams
from napari_embed.tsne import TSNE, affinities, neighbor_graph, separate

SETTINGS = {
    "max_iter": 90,
    "early_exaggeration_iter": 40,
    "perplexity": 8,
    "device": "cpu",
    "random_state": 0,
}

SCRIPT = """
import json, logging, os, sys, tempfile
from pathlib import Path
import numpy as np
import taichi as ti

folder = Path(sys.argv[1])
settings = json.loads(sys.argv[2])
tempfile.tempdir = str(folder / "scratch")
ti.init(arch=ti.cpu)
theirs = ti.field(ti.f32, shape=1000)
theirs.fill(7.0)
logged = []
class Keep(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("napari_embed").addHandler(Keep())

from napari_embed.errors import InputError, JobCancelled
from napari_embed.tsne import TSNE

x = np.load(folder / "x.npy")
seen, states = [], []
def follow(report):
    seen.append((report.iteration, report.positions is not None))
    if report.iteration >= 50 and not states:
        states.append(report.snapshot())
def fail(report):
    raise KeyError("mine")
def cancel(report):
    raise JobCancelled

model = TSNE(callback=follow, **settings).fit(x)
np.save(folder / "y.npy", model.embedding_)
np.save(folder / "new.npy", model.transform(x[:20] + 0.1))
resumed = TSNE(**settings).fit(x, checkpoint=states[0])
np.save(folder / "resumed.npy", resumed.embedding_)
pinned = np.arange(len(x)) < 50
init = (10 * x[:, :2]).astype(np.float32)
held = TSNE(init=init, **settings).fit(x, pinned=pinned).embedding_
stopped = TSNE(callback=lambda r: r.iteration >= 20, **settings).fit(x).n_iter_
raised = []
for callback in (fail, cancel):
    try:
        TSNE(callback=callback, **settings).fit(x)
    except (KeyError, JobCancelled) as error:
        raised.append(type(error).__name__)
try:
    TSNE(**settings).fit(x[:100], checkpoint=states[0])
except InputError as error:
    raised.append(str(error))
@ti.kernel
def double():
    for i in theirs:
        theirs[i] *= 2
double()
print(json.dumps({
    "seen": seen, "kl": model.kl_divergence_, "n_iter": model.n_iter_,
    "trace": model.kl_trace_.tolist(), "stopped": stopped, "raised": raised,
    "pinned": bool((held[pinned] == init[pinned]).all()),
    "moved": bool((held[~pinned] != init[~pinned]).any()),
    "theirs": bool((theirs.to_numpy() == 14.0).all()), "logged": logged,
    "left": os.listdir(folder / "scratch"),
}), file=sys.stderr)
"""


def test_other_program_survives_and_bits_agree(rng, tmp_path: Path) -> None:
    x = rng.standard_normal((300, 6))
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)  # Taichi reads a kernel's source
    home = str(Path(napari_embed.__file__).parents[1])
    script = str(tmp_path / "script.py")
    answer = subprocess.run(
        [sys.executable, script, str(tmp_path), json.dumps(SETTINGS)],
        capture_output=True, text=True, timeout=500, check=False,
        env=os.environ | {"PYTHONPATH": home},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stderr.strip().splitlines()[-1])
    assert told["theirs"]
    assert told["left"] == []
    assert any("process of its own" in line for line in told["logged"])
    assert told["seen"][-1] == [90, True]
    assert len(told["seen"]) >= 5
    assert 20 <= told["stopped"] < 90
    assert told["raised"][:2] == ["KeyError", "JobCancelled"]
    assert "of 300 items, this run has 100" in told["raised"][2]
    assert told["pinned"]
    assert told["moved"]
    here = TSNE(**SETTINGS).fit(x)
    assert told["n_iter"] == here.n_iter_ == 90
    assert told["kl"] == here.kl_divergence_
    np.testing.assert_array_equal(told["trace"], here.kl_trace_)
    for name, expected in (
        ("y.npy", here.embedding_),
        ("resumed.npy", here.embedding_),
        ("new.npy", here.transform(x[:20] + 0.1)),
    ):
        np.testing.assert_array_equal(np.load(tmp_path / name), expected)


def test_a_child_that_dies_is_named(rng, monkeypatch) -> None:
    p = affinities(neighbor_graph(rng.standard_normal((60, 4)), n_neighbors=15))
    start = rng.standard_normal((60, 2)).astype(np.float32)
    monkeypatch.setenv("NAPARI_EMBED_TAICHI", "no_such_module")
    with pytest.raises(DeviceLostError, match=r"(?s)code 1.*no_such_module"):
        separate.optimize_apart(p, start, ProjectionParams(n_components=2))
