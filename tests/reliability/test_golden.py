"""Projects of every format that was ever written stay readable, forever."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_embed.curation.decisions import Decisions
from napari_embed.errors import StoreVersionError
from napari_embed.project import Project
from napari_embed.project.manifest import FORMAT_VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FORMATS = sorted(p.parent.name for p in GOLDEN.glob("format-*/expected.json"))


@pytest.fixture
def facts():
    """The function that reads everything, kept beside the projects."""
    sys.path.insert(0, str(GOLDEN))
    try:
        from facts import facts

        yield facts
    finally:
        sys.path.remove(str(GOLDEN))


def plain(values: dict) -> dict:
    """Return values as JSON keeps them."""
    return json.loads(json.dumps(values))


def test_the_present_format_has_its_golden_project() -> None:
    assert f"format-{FORMAT_VERSION}" in FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_golden_project_holds_what_it_held(name: str, facts, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    path = tmp_path / "golden.embed"
    shutil.copytree(GOLDEN / name / "project", path)
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with Project.open(path) as project:
        assert project.verify() == []
        assert plain(facts(project)) == expected
    after = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert after == before  # looking changes nothing


@pytest.mark.parametrize("name", FORMATS)
def test_a_golden_project_can_be_worked_on(name: str, facts, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    path = tmp_path / "golden.embed"
    shutil.copytree(GOLDEN / name / "project", path)
    with Project.open(path, mode="a") as project:
        assert plain(facts(project)) == expected
        stage = project.begin_stage(
            "embeddings/own", fingerprint="embeddings/own-1", shape_tail=(5,),
            dtype=np.float32,
        )  # fmt: skip
        assert stage.pending() == []  # what was done counts as done
        assert stage.sealed
        with Decisions.open(project, mode="a", who="Bea") as decisions:
            decisions.add_tag("check", [9])
            assert np.flatnonzero(decisions.tagged("check")).tolist() == [1, 2, 3, 9]
            decisions.undo()
        assert project.verify() == []
        assert plain(facts(project)) == expected


def test_a_newer_format_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "golden.embed"
    shutil.copytree(GOLDEN / FORMATS[-1] / "project", path)
    manifest = json.loads((path / "project.json").read_text())
    [key] = [k for k, v in manifest.items() if "version" in k and v == FORMAT_VERSION]
    manifest[key] = FORMAT_VERSION + 1
    (path / "project.json").write_text(json.dumps(manifest))
    names = sorted(path.rglob("*"))
    for mode in ("r", "a"):
        with pytest.raises(StoreVersionError, match="version"):
            Project.open(path, mode=mode)  # type: ignore[arg-type]
    assert sorted(path.rglob("*")) == names
