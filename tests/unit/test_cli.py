"""The command line: help, errors, exit codes, and the whole way on small data."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from napari_embed.cli import compute, console, look, main, source, viewer, whole
from napari_embed.engine.jobs import JOBS
from napari_embed.engine.progress import JobControl
from napari_embed.project import Project


class EngineHere:
    """Runs jobs in this process: most tests need no second one."""

    def __enter__(self) -> EngineHere:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, job: str, **arguments: Any) -> dict[str, Any]:
        control = JobControl(on_log=console.say)
        result = JOBS[job](arguments, control, lambda *_, **__: None)
        return json.loads(json.dumps(result, allow_nan=False))


@pytest.fixture(scope="module", autouse=True)
def engine_here() -> Iterator[None]:
    """Let every command use an engine in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "Engine", EngineHere)
        patch.setattr(look, "Engine", EngineHere)
        patch.setattr(whole, "Engine", EngineHere)
        patch.setattr(source, "Engine", EngineHere)
        yield


@pytest.fixture(scope="module")
def vectors_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 120 own vectors, one of them NaN, with a PCA map."""
    folder = tmp_path_factory.mktemp("cli")
    vectors = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    vectors[5] = np.nan
    np.save(folder / "v.npy", vectors)
    project = folder / "v.embed"
    assert main(["new", str(folder / "v.npy"), str(project)]) == 3
    words = ["project", str(project), "--method", "pca", "--dims", "2"]
    assert main(words) == 3
    return project


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["map"],
        ["new"],
        ["estimate"],
        ["embed"],
        ["rescan"],
        ["reroot"],
        ["neighbors"],
        ["project"],
        ["view"],
        ["status"],
        ["duplicates"],
        ["outliers"],
        ["mislabels"],
        ["quality"],
        ["clusters"],
        ["sample"],
        ["export"],
        ["encoders"],
        ["verify"],
    ],
)
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: napari-embed")
    assert max(map(len, text.splitlines())) <= 88


def test_commands_describe_an_option_they_share_alike() -> None:
    from napari_embed.cli import compute, whole

    def shared(command: click.Command, name: str) -> dict[str, object]:
        found = next(p for p in command.params if p.name == name)
        return found.to_info_dict()

    assert shared(compute.embed, "encoder") == shared(whole.map_, "encoder")
    assert shared(compute.project, "dims") == shared(whole.map_, "dims")


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "zarr", "pyarrow", "numpy", "rich", "qtpy", "napari", "faiss"]
    code = (
        "import sys\n"
        "from napari_embed.cli import main\n"
        "assert main(['embed', '--help']) == 0\n"
        f"sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["embed"], 2, "Missing argument 'PROJECT'"),
        (["dance"], 2, "No such command 'dance'"),
        (["project", "x.embed", "--dims", "4"], 2, "'4' is not one of"),
        (["embed", "no/where.embed"], 1, "no/where.embed"),
        (["status", "no/where.embed"], 1, "no/where.embed"),
        (["view", "no/where.embed"], 1, "no/where.embed"),
        (["new", "no/where"], 1, "no/where"),
        (["project", "x.embed", "--learning"], 2, "No such option"),
    ],
)
def test_wrong_use_is_one_clear_sentence(
    words: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_status_for_programs_and_people(
    vectors_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(vectors_project), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n_items"] == 120
    assert facts["n_failed"] == 1
    states = {s["key"]: s["state"] for s in facts["stages"]}
    assert states == {"embeddings/vectors": "sealed", "projections/pca-2d": "sealed"}
    assert main(["status", str(vectors_project), "--errors"]) == 0
    text = capsys.readouterr().out
    assert "120 items" in text
    assert "NaN or Inf" in text


def test_export(
    vectors_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert main(["export", str(vectors_project), str(out)]) == 0
    with Project.open(vectors_project) as project:
        positions = project.read_projection("pca-2d").positions
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["x", "y", "image_path", "label"]
    assert rows[5]["x"] == ""
    assert float(rows[7]["y"]) == pytest.approx(float(positions[7, 1]), rel=1e-6)
    assert main(["export", str(vectors_project), str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(vectors_project), str(out), "--force"]) == 0
    assert (
        main(["export", str(vectors_project), str(out), "--force", "--all-columns"])
        == 0
    )
    assert out.read_text().startswith('"id","x","y","image_path","label"')
    parquet = tmp_path / "out.parquet"
    assert main(["export", str(vectors_project), str(parquet)]) == 0
    table = pq.read_table(parquet)
    assert table["x"].null_count == 1
    found = np.array(table["x"].drop_null())
    np.testing.assert_array_equal(found, positions[np.arange(120) != 5, 0])
    assert main(["export", str(vectors_project), str(tmp_path / "x.xlsx")]) == 1
    words = [
        "export",
        str(vectors_project),
        str(tmp_path / "y.csv"),
        "--projection",
        "no",
    ]
    assert main(words) == 1
    assert "Maps of this project: pca-2d" in capsys.readouterr().err


def test_exported_text_cannot_become_a_formula(tmp_path: Path) -> None:
    lines = ["name,x,y,note", "a,1,2,=cmd()", "b,2,3,-1.5", "c,3,4,@x", "d,5,6,fine"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    project = str(tmp_path / "t.embed")
    assert main(["new", str(tmp_path / "t.csv"), project]) == 0
    words = ["export", project, "--all-columns"]
    assert main([*words, str(tmp_path / "a.csv")]) == 0
    assert main([*words, str(tmp_path / "b.csv"), "--raw-text"]) == 0

    def notes(name: str) -> list[str]:
        with (tmp_path / name).open(newline="") as file:
            return [row["note"] for row in csv.DictReader(file)]

    assert notes("a.csv") == ["'=cmd()", "-1.5", "'@x", "fine"]
    assert notes("b.csv") == ["=cmd()", "-1.5", "@x", "fine"]


def test_folder_to_map_with_a_bad_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    folder = tmp_path / "photos"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    (folder / "cat/3.png").write_bytes(b"broken")
    project = tmp_path / "p.embed"
    assert main(["new", str(folder), str(project), "--name", "Pets"]) == 0
    assert main(["embed", str(project)]) == 3
    text = capsys.readouterr().out
    assert "1 of 80 items have no vector" in text
    assert main(["neighbors", str(project), "--k", "10"]) == 3
    assert main(["project", str(project), "--method", "pca"]) == 3
    assert main(["embed", str(project)]) == 3
    assert "Nothing to do" in capsys.readouterr().out
    assert main(["export", str(project), str(tmp_path / "o.csv")]) == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["label"] == "cat"
    assert Path(rows[0]["image_path"]).is_file()
    assert rows[0]["z"] != ""


def test_new_refuses_what_is_there(
    vectors_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = vectors_project.parent / "v.npy"
    assert main(["new", str(source), str(vectors_project)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_verify_names_damage_and_repairs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(1).normal(size=(1200, 4)))
    project = tmp_path / "v.embed"
    assert main(["new", str(tmp_path / "v.npy"), str(project)]) == 0
    assert main(["verify", str(project)]) == 0
    files = (project / "embeddings/vectors").iterdir()
    chunk = next(p for p in sorted(files) if p.name != "zarr.json")
    before = chunk.read_bytes()
    chunk.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert main(["verify", str(project)]) == 1
    assert "content differs" in capsys.readouterr().out
    assert main(["verify", str(project), "--repair"]) == 0
    assert "1 of 1 made again" in capsys.readouterr().out
    assert main(["verify", str(project)]) == 0
    assert chunk.read_bytes() == before


def test_repair_says_what_only_a_backup_can_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(1).normal(size=(20, 4)))
    project = tmp_path / "v.embed"
    assert main(["new", str(tmp_path / "v.npy"), str(project)]) == 0
    manifest = json.loads((project / "project.json").read_text())
    manifest["items_checksum"] = "0" * 32
    (project / "project.json").write_text(json.dumps(manifest))
    assert main(["verify", str(project), "--repair"]) == 1
    text = capsys.readouterr().out
    assert "0 of 1 made again" in text
    assert "items.parquet: cannot be made again: restore it" in text


def test_a_map_of_another_source_is_not_passed_off(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a/images", "b/images"):
        Path(folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(f"{folder}/0.png")
    assert main(["new", "a/images"]) == 0
    for words in (["b/images"], ["sample", "images.embed"]):
        assert main(["map", *words, "--no-view"]) == 1
        assert "was made from" in capsys.readouterr().err
    whole._require_same_source(Path("images.embed"), "b/../a/images")


def test_a_project_is_no_source(
    vectors_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(vectors_project), "again.embed"]) == 1
    assert "is a project, not a source" in capsys.readouterr().err


def test_options_of_the_source_reach_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = np.zeros((5, 6, 3), np.uint8)
    kinds = np.array(list("abcab"))
    np.savez(tmp_path / "a.npz", one=stack, two=stack, kinds=kinds)
    words = ["new", str(tmp_path / "a.npz"), str(tmp_path / "a.embed")]
    assert main(words) == 1
    assert main([*words, "--option", "array=two"]) == 1
    assert "set layout=NHW" in capsys.readouterr().err
    given = ["--option", "array=two", "--option", "layout=NHW", "--label", "kinds"]
    assert main([*words, *given]) == 0
    with Project.open(tmp_path / "a.embed") as project:
        assert project.items()["label"].to_pylist() == kinds.tolist()
    assert main([*words, "--option", "layout"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "cp1252"])
def test_odd_names_reach_the_terminal_harmless(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    shown = console.showable("\x1b[31m日本 é \udce9\n\u202ex", stream)
    stream.write(shown)  # nothing the encoding lacks
    lacking = {"ascii": ("??", "?"), "utf-8": ("日本", "é"), "cp1252": ("??", "é")}
    far, near = lacking[encoding]
    assert shown == f"?[31m{far} {near} ?\n?x"


def test_encoders_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoders"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("descriptor")
    assert "ready" in text


def test_without_napari_the_pip_line_is_named(
    vectors_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(viewer.importlib.util, "find_spec", lambda name: None)
    assert main(["view", str(vectors_project)]) == 1
    assert 'pip install "napari-embed[all]"' in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is X11's")
def test_without_a_display_view_tells_how_to_get_a_picture(
    vectors_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["view", str(vectors_project)]) == 1
    assert "xvfb-run" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is X11's")
def test_demo_without_a_display_saves_a_picture(
    vectors_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The window itself is tested elsewhere; here, which command is started."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    started: list[list[str]] = []

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        Path(command[-1]).write_bytes(b"png")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(viewer.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(viewer.subprocess, "run", start)
    assert viewer.demo_view(vectors_project, projection="pca-2d") == 0
    assert started[0][0] == "/usr/bin/xvfb-run"
    assert "napari_embed.gui" in started[0]
    assert started[0][-2:] == ["--screenshot", str(tmp_path / "demo.png")]
    assert "demo.png" in capsys.readouterr().out
    monkeypatch.setattr(viewer.shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match="apt-get install xvfb"):
        viewer.demo_view(vectors_project, projection="pca-2d")


def test_an_unexpected_error_is_told_without_a_traceback(
    vectors_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(self: Project) -> int:
        raise KeyError("ids")

    monkeypatch.setattr(Project, "size_on_disk", fail)
    assert main(["status", str(vectors_project)]) == 1
    error = capsys.readouterr().err
    assert "Unexpected KeyError" in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_finished_work(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.zeros((60_000, 12, 12), np.uint8))
    project = tmp_path / "i.embed"
    assert main(["new", str(tmp_path / "i.npy"), str(project)]) == 0
    command = [sys.executable, "-m", "napari_embed", "embed", str(project)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
        # Where the tests run in the background, SIGINT is ignored and inherited so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        folder = project / "embeddings/descriptor"
        end = time.monotonic() + 60
        while time.monotonic() < end and len([*folder.glob("*")]) < 3:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run it again to go on" in error
    assert "Traceback" not in error
    with Project.open(project, mode="a") as opened:  # the lock is free again
        assert opened.stage_info("embeddings/descriptor").state == "partial"


def test_estimate_rescan_and_reroot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, project = tmp_path / "photos", tmp_path / "p.embed"
    photos.mkdir()
    for i in range(6):
        Image.new("RGB", (20, 20), (40 * i, 9, 9)).save(photos / f"{i}.png")
    assert main(["new", str(photos), str(project)]) == 0
    capsys.readouterr()
    assert main(["estimate", str(project)]) == 0
    said = capsys.readouterr().out
    assert "6 images with descriptor" in said
    assert "memory" in said
    assert main(["embed", str(project)]) == 0
    assert main(["estimate", str(project)]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    Image.new("RGB", (20, 20), "white").save(photos / "new.png")
    (photos / "0.png").unlink()
    assert main(["rescan", str(project)]) == 0
    said = capsys.readouterr().out
    assert "7 items: 1 added, 1 missing" in said
    assert "1 of 1 chunks" in said
    photos.rename(tmp_path / "elsewhere")
    assert main(["rescan", str(project)]) == 1
    assert main(["reroot", str(project), str(tmp_path / "nowhere")]) == 1
    assert main(["reroot", str(project), str(tmp_path / "elsewhere")]) == 0
    assert main(["rescan", str(project)]) == 0
    assert "no changes" in capsys.readouterr().out
