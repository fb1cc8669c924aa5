"""The controller, driven without Qt, napari or an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gui_fakes import Desk, FakeProject, make_project_folder, projection, stage_entry
from PIL import Image

from napari_embed.arrays import Projection
from napari_embed.engine.positions import PositionsBuffer
from napari_embed.errors import InputError, StoreError
from napari_embed.gui.background import Background
from napari_embed.gui.opening import project_path
from napari_embed.gui.settings import RecentProjects
from napari_embed.gui.thumbnails import Thumbnails
from napari_embed.project import Project
from napari_embed.sources.spec import SourceSpec

MAPS = {"tsne-2d": projection(60, 2, 1), "tsne-3d": projection(60, 3, 2)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, projections=dict(MAPS))


@pytest.fixture
def opened(desk: Desk) -> Desk:
    desk.controller.open_path(desk.path)
    return desk


def test_opening_a_project_shows_its_3d_map_coloured_by_label(opened: Desk) -> None:
    state = opened.state
    assert state.project.name == "photos"
    assert state.projection.name == "tsne-3d"
    assert state.color_column == "label"
    coloring = opened.controller.coloring
    assert coloring.names == ("cat", "dog", "owl")
    assert coloring.counts == (20, 20, 20)
    assert (state.n_loaded, state.n_drawn, state.n_selected) == (60, 60, 0)
    np.testing.assert_array_equal(opened.map.positions, MAPS["tsne-3d"].positions)
    codes, palette = next(v for n, v in opened.map.calls if n == "categories")
    assert codes.tolist() == [i % 3 for i in range(60)]
    assert len({tuple(c) for c in palette.tolist()}) == 3
    assert opened.map.read([1, 2]).shape == (2, 8, 8, 3)
    assert opened.engines_started == 0  # looking needs no engine


def test_a_project_without_images_has_no_thumbnails(tmp_path: Path) -> None:
    desk = Desk(tmp_path, projections=dict(MAPS), kind="vectors")
    desk.controller.open_path(desk.path)
    assert desk.map.read is None


def test_a_named_map_is_shown_and_an_unknown_one_is_named(opened: Desk) -> None:
    opened.controller.open_project(opened.path, projection="tsne-2d")
    assert opened.state.projection.name == "tsne-2d"
    opened.controller.open_project(opened.path, projection="umap")
    assert "umap" in opened.state.message.text
    assert "tsne-3d" in opened.state.message.text


def test_only_differences_reach_the_panels(opened: Desk) -> None:
    heard = []
    opened.controller.state_changed.connect(lambda new, old: heard.append((new, old)))
    opened.controller.update(tool="pan")
    assert heard == []
    opened.controller.set_tool("lasso")
    assert [(n.tool, o.tool) for n, o in heard] == [("lasso", "pan")]


def test_switching_maps_keeps_selection_and_colours(opened: Desk) -> None:
    opened.controller.select(np.arange(7))
    opened.controller.show_projection("tsne-2d")
    assert opened.state.projection.n_components == 2
    assert opened.state.n_selected == 7
    assert opened.state.color_column == "label"


def test_items_without_position_are_hidden_never_drawn(tmp_path: Path) -> None:
    positions = MAPS["tsne-3d"].positions.copy()
    positions[[3, 9]] = np.nan
    desk = Desk(tmp_path, projections={"tsne-3d": Projection(positions)})
    desk.controller.open_path(desk.path)
    assert np.flatnonzero(~desk.map.visible).tolist() == [3, 9]
    assert (desk.state.n_loaded, desk.state.n_drawn) == (58, 58)
    assert desk.state.message.text.startswith("2 items have no place")
    desk.controller.show_all()
    assert np.flatnonzero(~desk.map.visible).tolist() == [3, 9]


def test_hiding_classes_and_points(opened: Desk) -> None:
    c = opened.controller
    c.set_hidden_classes({1})
    assert opened.map.visible.tolist() == [i % 3 != 1 for i in range(60)]
    assert opened.state.hidden_classes == {1}
    c.select(np.array([0, 2]))
    c.hide_selected()
    assert opened.state.n_drawn == 38
    assert opened.state.n_selected == 0
    c.show_all()
    assert opened.state.n_drawn == 60
    assert opened.state.hidden_classes == frozenset()
    c.select(np.array([5, 6, 7]))
    c.isolate_selected()
    assert np.flatnonzero(opened.map.visible).tolist() == [5, 6, 7]


def test_hiding_is_undone_and_redone(opened: Desk) -> None:
    c = opened.controller
    start = opened.map.visible.tolist()
    c.set_hidden_classes({1})
    c.select(np.array([0, 2]))
    c.hide_selected()
    c.show_all()
    assert c.state.undo_label == "show all"
    c.undo()
    assert opened.state.hidden_classes == {1}
    assert opened.state.n_drawn == 38
    assert (c.state.undo_label, c.state.redo_label) == ("hide", "show all")
    c.undo()
    c.undo()
    assert opened.map.visible.tolist() == start
    assert c.state.undo_label == ""
    for label in ("hide classes", "hide", "show all"):
        assert c.state.redo_label == label
        c.redo()
    assert opened.state.n_drawn == 60
    c.set_hidden_classes({2})
    c.set_hidden_classes({2})
    c.color_by(None)
    c.undo()  # the classes were those of another column
    assert opened.state.hidden_classes == frozenset()
    c.open_path(opened.path)
    assert (c.state.undo_label, c.state.redo_label) == ("", "")


def test_hiding_nothing_hides_nothing(opened: Desk) -> None:
    opened.controller.hide_selected()
    opened.controller.isolate_selected()
    assert opened.state.n_drawn == 60


def test_numbers_colour_by_a_colormap(tmp_path: Path) -> None:
    values = {"score": [float(i) for i in range(60)]}
    desk = Desk(tmp_path, projections=dict(MAPS), values=values)
    desk.controller.open_path(desk.path)
    assert desk.state.color_kind == "none"
    desk.controller.color_by("score")
    desk.controller.set_colormap("magma")
    shown, colormap, limits = next(
        v for n, v in reversed(desk.map.calls) if n == "values"
    )
    assert shown.tolist() == [float(i) for i in range(60)]
    assert colormap == "magma"
    assert limits == pytest.approx((0.59, 58.41))  # 1st and 99th percentile
    desk.controller.color_by(None)
    assert desk.map.names()[-2:] == ["plain", "visible"]


def test_limits_of_numbers_are_chosen_and_kept(tmp_path: Path) -> None:
    values = {
        "score": [float(i) if i % 10 else float("nan") for i in range(60)],
        "kind": ["a", "b"] * 30,
    }
    desk = Desk(tmp_path, projections=dict(MAPS), values=values)
    desk.controller.open_path(desk.path)
    desk.controller.color_by("score")
    coloring = desk.controller.coloring
    assert coloring.extent == (1.0, 59.0)
    tally = coloring.tally()
    assert (coloring.n_missing, tally[:-1].sum(), tally[-1]) == (6, 54, 6)
    finite = coloring.values[np.isfinite(coloring.values)]
    assert np.array_equal(tally[:-1], np.histogram(finite, 64, coloring.extent)[0])
    first_half = np.arange(60) < 30
    assert coloring.tally(first_half).sum() == 30
    assert coloring.tally(first_half)[-1] == 3
    desk.controller.set_color_limits((10.0, 20.0))
    assert desk.map.calls[-1][1][2] == (10.0, 20.0)
    for wrong in ((5.0, 5.0), (9.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(InputError, match="smaller one first"):
            desk.controller.set_color_limits(wrong)
    desk.controller.color_by("kind")
    desk.controller.color_by("score")
    assert desk.state.color_limits == (10.0, 20.0)
    desk.controller.set_color_limits(None)
    assert desk.state.color_limits == coloring.limits
    desk.controller.set_hidden_classes((-1,))  # what has no number
    assert desk.state.n_drawn == 54
    assert not desk.map.visible[::10].any()


def test_chosen_colours_are_kept_from_column_to_column(opened: Desk) -> None:
    opened.project.values["other"] = ["x", "y"] * 30
    opened.controller.open_path(opened.path)
    red = (1.0, 0.0, 0.0, 1.0)
    before = opened.controller.coloring.palette.copy()
    version = opened.state.color_version
    opened.controller.set_class_color(1, red)
    assert opened.state.color_version > version
    opened.controller.color_by("other")
    assert not (opened.controller.coloring.palette == red).all(axis=1).any()
    opened.controller.color_by("label")
    assert tuple(opened.controller.coloring.palette[1]) == red
    opened.controller.open_path(opened.path)
    assert tuple(opened.controller.coloring.palette[1]) == red
    opened.controller.reset_class_colors()
    assert np.array_equal(opened.controller.coloring.palette, before)
    opened.controller.color_by("label")
    assert np.array_equal(opened.controller.coloring.palette, before)


def test_empty_cells_are_missing_not_a_class(tmp_path: Path) -> None:
    labels = ["cat", "", None, "  ", "dog", "cat"] * 10
    numbers = [1, None, 3, 1, 1, 3] * 10
    values = {"label": labels, "kind": numbers}
    desk = Desk(tmp_path, projections=dict(MAPS), values=values)
    desk.project.column_values = lambda name: np.array(values[name], dtype=float)
    desk.controller.open_path(desk.path)
    coloring = desk.controller.coloring
    assert (coloring.names, coloring.counts) == (("cat", "dog"), (20, 10))
    assert coloring.n_missing == 30
    assert coloring.codes[:6].tolist() == [0, -1, -1, -1, 1, 0]
    desk.controller.set_hidden_classes((-1,))
    assert desk.state.n_drawn == 30
    desk.controller.color_by("kind")
    coloring = desk.controller.coloring
    assert (coloring.names, coloring.counts) == (("1", "3"), (30, 20))


def test_an_unlabelled_label_column_colours_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, projections=dict(MAPS), values={"label": [None] * 60})
    desk.controller.open_path(desk.path)
    assert desk.state.color_kind == "none"
    assert desk.state.color_column is None


def test_what_cannot_be_opened_is_said_and_the_old_stays(opened: Desk) -> None:
    opened.open_error = StoreError("broken.embed is damaged: no items. Restore it.")
    opened.controller.open_project(Path("broken.embed"))
    assert "broken.embed is damaged" in opened.state.message.text
    assert opened.state.busy == ""
    assert opened.state.project.name == "photos"


def test_a_missing_path_is_said(desk: Desk, tmp_path: Path) -> None:
    desk.controller.open_path(tmp_path / "nowhere")
    assert "There is no" in desk.state.message.text
    assert desk.engine.jobs == []


def test_a_folder_becomes_a_project_beside_it(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "photos2").mkdir()
    desk.controller.open_path(tmp_path / "photos2")
    assert desk.engine.jobs[0].name == "create"
    assert desk.engine.arguments[0]["path"] == str(tmp_path / "photos2.embed")
    assert desk.state.busy
    desk.engine.send("progress", done=10, total=0, unit="files")
    assert desk.state.opening.done == 10
    desk.engine.send("done", path="x")
    assert desk.opened == [tmp_path / "photos2.embed"]
    assert desk.state.busy == ""


def test_opening_can_be_cancelled(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "photos2").mkdir()
    desk.controller.open_path(tmp_path / "photos2")
    desk.controller.cancel_opening()
    assert desk.engine.jobs[0].wishes == ["cancel"]
    desk.engine.send("cancelled", message="")
    assert (desk.state.busy, desk.opened) == ("", [])


def test_creating_that_fails_says_why(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    desk.controller.open_path(tmp_path / "empty")
    desk.engine.send("error", type="InputError", message="No images in empty.")
    assert desk.state.message.text == "No images in empty."
    assert desk.state.busy == ""
    assert desk.state.project is None


def test_run_all_runs_three_stages_and_shows_the_map(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    c = desk.controller
    c.open_path(desk.path)
    wanted = []
    c.panel_wanted.connect(wanted.append)
    c.compute.run_all()
    assert [s.status for s in desk.state.stages] == ["running", "queued", "queued"]
    assert [j.name for j in desk.engine.jobs] == ["embed"]
    desk.engine.send("progress", done=30, total=60, unit="images", rate=15.0, eta_s=2.0)
    embed = desk.state.stage("embed")
    assert (embed.progress.done, embed.progress.eta_s) == (30, 2.0)
    desk.engine.send("done")
    assert desk.engine.jobs[-1].name == "neighbors"
    assert desk.engine.arguments[-1]["embeddings"] == "descriptor"
    desk.engine.send("done")
    assert desk.engine.jobs[-1].name == "project"
    desk.project.projections = dict(MAPS)
    desk.project.stage_list = [
        stage_entry("embeddings/descriptor"),
        stage_entry("neighbors/descriptor"),
        stage_entry("projections/tsne-3d", info={"n_components": 3}),
    ]
    desk.engine.send("done", name="tsne-3d")
    assert desk.state.projection.name == "tsne-3d"
    assert [s.status for s in desk.state.stages] == ["done"] * 3
    assert wanted == ["explore"]
    assert desk.engines_started == 1


def live_project(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, stages=[
        stage_entry("embeddings/descriptor"), stage_entry("neighbors/descriptor"),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("projection")
    return desk


def test_the_map_is_seen_forming(tmp_path: Path) -> None:
    desk = live_project(tmp_path)
    compute = desk.controller.compute
    assert desk.engine.jobs[-1].name == "project"
    name = desk.engine.arguments[-1]["positions"]
    assert Path(name).exists()
    assert not compute.poll_live()
    with PositionsBuffer.attach(name) as engine_side:
        engine_side.write(projection(60, 3, 5).positions)
        assert compute.poll_live()
        assert not compute.poll_live()  # nothing new, nothing drawn
        engine_side.write(projection(60, 3, 6).positions)
        assert compute.poll_live()
    assert desk.map.names().count("show") == 1
    assert desk.map.names().count("update_positions") == 1
    assert desk.state.projection.name == "tsne-3d"
    assert desk.state.color_column == "label"
    heard = []
    desk.controller.kl_reported.connect(lambda i, v: heard.append((i, v)))
    desk.engine.send("kl", iteration=50, kl_divergence=2.5)
    assert heard == [(50, 2.5)]
    desk.project.projections = {"tsne-3d": projection(60, 3, 6)}
    desk.engine.send("done", name="tsne-3d")
    # The finished map replaces the live one without a jump of the camera.
    assert desk.map.names().count("show") == 1
    assert not Path(name).exists()


def test_pause_resume_and_stop_reach_the_engine(tmp_path: Path) -> None:
    desk = live_project(tmp_path)
    compute = desk.controller.compute
    compute.pause()
    assert desk.state.stage("projection").status == "paused"
    compute.pause()
    compute.resume()
    assert desk.state.stage("projection").status == "running"
    compute.stop()
    assert desk.engine.jobs[-1].wishes == ["pause", "resume", "stop"]


def test_cancel_forgets_what_waits_and_removes_shared_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.run_all()
    desk.controller.compute.cancel()
    assert [s.status for s in desk.state.stages] == [
        "cancelling", "missing", "missing",
    ]  # fmt: skip
    desk.engine.send("cancelled", message="")
    assert not desk.state.running
    assert [j.name for j in desk.engine.jobs] == ["embed"]
    live = live_project(tmp_path / "b")
    name = live.engine.arguments[-1]["positions"]
    live.engine.send("cancelled", message="")
    assert not Path(name).exists()


def cancelled_live(tmp_path: Path, **project: object) -> Desk:
    desk = Desk(tmp_path, **project)
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("projection")
    while desk.engine.jobs[-1].name != "project":
        desk.engine.send("done")
    with PositionsBuffer.attach(desk.engine.arguments[-1]["positions"]) as engine_side:
        engine_side.write(projection(60, 3, 5).positions)
        assert desk.controller.compute.poll_live()
    desk.engine.send("cancelled", message="")
    return desk


def test_a_cancelled_map_gives_way_to_the_one_before(tmp_path: Path) -> None:
    desk = cancelled_live(tmp_path, projections={"given-2d": MAPS["tsne-2d"]})
    assert desk.state.projection.name == "given-2d"
    np.testing.assert_array_equal(desk.map.positions, MAPS["tsne-2d"].positions)


def test_a_cancelled_first_map_stays_in_view_and_says_so(tmp_path: Path) -> None:
    desk = cancelled_live(tmp_path)
    assert desk.state.projection.title == "tsne-3d, not saved"
    assert desk.map.positions.shape == (60, 3)


def test_a_map_ended_by_hand_can_be_started_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, projections=dict(MAPS), stages=[
        stage_entry("embeddings/descriptor"),
        stage_entry("neighbors/descriptor"),
        stage_entry("projections/tsne-3d", fingerprint="abc-stopped",
                    info={"n_components": 3, "kl_divergence": 1.5, "n_iter": 90}),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    card = desk.state.stage("projection")
    assert card.status == "partial"
    assert card.summary == "tsne-3d: KL 1.50 after 90 iterations, ended by hand"


def test_a_chunk_left_in_the_middle_is_gone_on_with(tmp_path: Path) -> None:
    desk = Desk(tmp_path, stages=[
        stage_entry("embeddings/descriptor", state="partial", done=0, total=3),
        stage_entry("pieces/descriptor", state="partial", info={"rows": 384}),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    card = desk.state.stage("embed")
    n = desk.controller.snapshot.info.n_items
    assert card.status == "partial"
    assert card.summary == f"384 of {n} items done; Start goes on from there"


def test_the_first_encoders_map_stays_done_beside_a_second_encoder(
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    desk = Desk(tmp_path, projections=dict(MAPS), stages=[
        stage_entry("embeddings/descriptor"),
        stage_entry("neighbors/descriptor"),
        stage_entry("embeddings/lite0"),
        stage_entry("projections/tsne-3d", upstream="neighbors/descriptor"),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    compute = desk.controller.compute
    settings = compute.settings
    for encoder, status in (("descriptor", "done"), ("lite0", "missing")):
        other = replace(settings.embed, encoder=encoder)
        compute.set_settings(replace(settings, embed=other))
        assert desk.state.stage("projection").status == status


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_map_that_was_kept_half_way_is_gone_on_with(
    tmp_path: Path, by_hand: bool
) -> None:
    from dataclasses import replace

    stages = [
        stage_entry("embeddings/descriptor"),
        stage_entry("neighbors/descriptor"),
        stage_entry("checkpoints/tsne-3d", state="partial",
                    params={"perplexity": 30.0, "device": "cpu"},
                    info={"iteration": 600, "max_iter": 750}),
    ]  # fmt: skip
    if by_hand:
        stages.append(stage_entry("projections/tsne-3d", fingerprint="abc-stopped"))
    desk = Desk(tmp_path, projections=dict(MAPS) if by_hand else {}, stages=stages)
    desk.controller.open_path(desk.path)
    card = desk.state.stage("projection")
    assert card.status == "partial"
    words = "stopped at iteration 600 of 750; Start goes on from there"
    assert card.summary == ("tsne-3d, ended by hand; " if by_hand else "") + words
    compute = desk.controller.compute
    settings = compute.settings
    other = replace(settings.projection, perplexity=50.0)
    compute.set_settings(replace(settings, projection=other))
    assert "goes on" not in desk.state.stage("projection").summary


def test_the_engine_tells_its_device_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    assert desk.state.device == ""
    desk.controller.compute.run_all()
    desk.engine.send("done")
    assert [j.name for j in desk.engine.jobs] == ["embed", "info", "neighbors"]
    desk.engine.send("done", index=1, gpu=None, cpus=4)
    assert desk.state.device == "CPU, 4 cores"
    desk.engine.send("done")
    assert [j.name for j in desk.engine.jobs].count("info") == 1
    assert desk.state.stage("projection").status == "running"


def test_retry_goes_on_with_what_was_to_follow(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.run_all()
    desk.engine.send("error", type="ComputeError", message="Something broke.")
    assert desk.state.stage("embed").message.kept
    desk.controller.compute.retry()
    assert [s.status for s in desk.state.stages] == ["running", "queued", "queued"]


def test_failed_images_can_be_tried_again(tmp_path: Path) -> None:
    failures = [{"id": 1, "source": "1.png", "stage": "embeddings/descriptor",
                 "reason": "broken"}]  # fmt: skip
    desk = Desk(tmp_path, failures=failures, stages=[
        stage_entry("embeddings/descriptor"),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    assert desk.state.stage("embed").n_failed == 1
    assert desk.state.project.errors[0].reason == "broken"
    desk.controller.compute.retry_failed()
    assert desk.engine.arguments[-1]["retry_failed"] is True


def test_an_error_stops_the_chain_and_offers_one_action(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.run_all()
    desk.engine.send("error", type="DeviceLostError", message="The engine died.")
    message = desk.state.stage("embed").message
    assert message.text == "The engine died."
    assert message.kept == "Finished vectors are kept; Start goes on from there."
    assert message.action == "retry"
    assert not desk.state.running
    desk.controller.compute.start_stage("embed")
    assert desk.state.stage("embed").status == "running"
    assert desk.state.stage("embed").message is None


def test_an_encoder_without_weights_offers_the_built_in_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("embed")
    desk.engine.send("error", type="ModelError", message="No weights.")
    assert desk.state.stage("embed").message.action == "use_default_encoder"


def test_late_reports_of_an_older_job_are_dropped(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("embed")
    desk.engine.send("error", type="ComputeError", message="first")
    desk.controller.compute.start_stage("embed")
    desk.engine.send("done", index=0)
    desk.engine.send("progress", index=0, done=1, total=2)
    assert desk.state.stage("embed").status == "running"
    assert desk.state.stage("embed").progress.done == 0


def test_changed_settings_make_results_stale(tmp_path: Path) -> None:
    from dataclasses import replace

    desk = Desk(tmp_path, projections=dict(MAPS), stages=[
        stage_entry("embeddings/descriptor", params={"encoder": "descriptor"}),
        stage_entry("neighbors/descriptor", params={"n_neighbors": 90}),
        stage_entry("projections/tsne-3d", params={"perplexity": 30.0}),
    ])  # fmt: skip
    desk.controller.open_path(desk.path)
    assert [s.status for s in desk.state.stages] == ["done"] * 3
    compute = desk.controller.compute
    settings = compute.settings
    compute.set_settings(
        replace(settings, neighbors=replace(settings.neighbors, n_neighbors=30))
    )
    assert [s.status for s in desk.state.stages] == ["done", "stale", "stale"]
    # Starting the last stage does the stale one before it first.
    compute.start_stage("projection")
    assert [j.name for j in desk.engine.jobs] == ["neighbors"]


def test_another_project_waits_for_the_running_job(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("embed")
    desk.controller.open_project(desk.path)
    assert "running" in desk.state.message.text
    assert len(desk.opened) == 1


def test_an_engine_that_cannot_start_is_an_error_on_the_card(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    def broken() -> None:
        raise StoreError("no engine here")

    desk.controller.compute.queue._engine_factory = broken
    desk.controller.open_path(desk.path)
    desk.controller.compute.start_stage("embed")
    assert desk.state.stage("embed").message.text == "no engine here"
    assert not desk.controller.compute.queue.busy


def test_closing_ends_everything_once(tmp_path: Path) -> None:
    desk = live_project(tmp_path)
    name = desk.engine.arguments[-1]["positions"]
    desk.controller.close()
    desk.controller.close()
    assert desk.engine.closed
    assert desk.project.closed
    assert not Path(name).exists()
    assert desk.map.names().count("close") == 1
    desk.engine.send("done", name="tsne-3d")  # arrives too late, is ignored


def test_a_project_that_opens_too_late_is_closed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    waiting = []
    desk.controller._background = Background(waiting.append)
    desk.controller.open_project(desk.path)
    desk.controller.cancel_opening()
    desk.controller._background._pool.shutdown(wait=True)
    for call in waiting:
        call()
    assert desk.state.project is None
    # It was either never opened or closed again.
    assert desk.project.closed == bool(desk.opened)


def test_opening_another_project_closes_the_first(opened: Desk) -> None:
    first = opened.project
    opened.project = FakeProject(opened.path, projections=dict(MAPS))
    opened.controller.open_project(opened.path)
    assert first.closed
    assert not opened.project.closed
    assert opened.state.projection.name == "tsne-3d"


def test_only_the_newest_answer_of_a_topic_arrives() -> None:
    waiting = []
    background = Background(waiting.append)
    got: list[int] = []
    for i in range(20):
        background.run("map", lambda i=i: i, got.append, lambda e: got.append(-1))
    background._pool.shutdown(wait=True)
    for call in waiting:
        call()
    assert got == [19]
    background.close()


def test_recent_projects_survive_damage(tmp_path: Path) -> None:
    file = tmp_path / "settings" / "recent.json"
    recent = RecentProjects(file)
    assert recent.paths() == []
    folders = []
    for i in range(10):
        (tmp_path / f"{i}.embed").mkdir()
        folders.append((tmp_path / f"{i}.embed").resolve())
        recent.add(folders[-1])
    assert recent.paths() == folders[:1:-1]
    recent.add(folders[5])
    assert recent.paths()[0] == folders[5]
    assert len(recent.paths()) == 8
    file.write_text('{"not": "a list"}')
    assert recent.paths() == []
    file.write_bytes(b"\xff\x00")
    assert recent.paths() == []


def test_a_failure_is_not_carried_into_the_next_project(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.run_all()
    desk.engine.send("error", type="InputError", message="Too few items.")
    assert desk.state.stage("embed").message.text == "Too few items."
    assert desk.state.stage("embed").message.action == ""  # it would fail again
    other = make_project_folder(tmp_path / "other.embed")
    desk.project = FakeProject(other)
    desk.controller.open_path(other)
    assert desk.state.project.name == "other"
    assert all(s.message is None for s in desk.state.stages)


def test_an_image_that_fails_for_two_encoders_is_one_image(tmp_path: Path) -> None:
    failures = [
        {"id": i, "source": f"{i}.jpg", "stage": f"embeddings/{e}", "reason": "cut"}
        for e in ("descriptor", "lite0")
        for i in (4, 2)
    ]
    desk = Desk(tmp_path, failures=failures)
    desk.controller.open_path(desk.path)
    assert desk.state.project.n_errors == 2
    assert [e.source for e in desk.state.project.errors] == ["2.jpg", "4.jpg"]


def test_each_source_gets_a_project_of_its_own(tmp_path: Path) -> None:
    folder, table = tmp_path / "cats", tmp_path / "cats.csv"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "1.png")
    table.write_text("image_path\ncats/1.png\n")
    first = project_path(folder)
    assert first == tmp_path / "cats.embed"
    Project.create(first, SourceSpec("folder", str(folder))).close()
    assert project_path(folder) == first  # again: opened, not made anew
    second = project_path(table)
    assert second == tmp_path / "cats 2.embed"
    second.write_text("a file in the way")
    assert project_path(table) == tmp_path / "cats 3.embed"


def test_images_are_shown_before_they_have_thumbnails(tmp_path: Path) -> None:
    for i, color in enumerate([(200, 10, 10), (10, 200, 10)]):
        Image.new("RGB", (40, 40), color).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    table = tmp_path / "items.csv"
    table.write_text("image_path,x,y\n0.png,0,0\n1.png,1,1\n2.png,2,0\n")
    spec = SourceSpec("table", str(table))
    with Project.create(tmp_path / "items.embed", spec) as project:
        pictures = Thumbnails(project)([1, 2, 0])
    middle = pictures.shape[1] // 2
    seen = pictures[:, middle, middle].tolist()
    assert seen == [[10, 200, 10], [0, 0, 0], [200, 10, 10]]


def test_changes_are_looked_for_and_told(tmp_path):
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.look_for_changes()
    assert desk.engine.jobs[-1].name == "rescan"
    assert desk.engine.arguments[-1] == {"path": str(desk.path)}
    assert desk.state.busy
    found = {"added": 3, "changed": 0, "missing": 1, "returned": 0, "chunks": 2}
    desk.engine.send("done", **found)
    assert len(desk.opened) == 2  # ids beyond the old ones are known now
    assert not desk.state.busy
    assert desk.state.message.text.startswith("3 added, 1 missing.")
    desk.controller.compute.move_source("/new/place")
    assert desk.engine.jobs[-1].name == "reroot"
    desk.engine.send("error", type="InputError", message="not there")
    assert desk.state.message.text == "not there"
    assert desk.state.message.kept == "Nothing was changed."
    assert not desk.state.busy


def test_an_estimate_is_told_on_the_first_card(tmp_path):
    desk = Desk(tmp_path)
    desk.controller.open_path(desk.path)
    desk.controller.compute.estimate()
    assert desk.engine.jobs[-1].name == "estimate"
    assert desk.engine.arguments[-1]["params"]["encoder"] == "descriptor"
    assert desk.state.stage("embed").status == "running"
    desk.engine.send(
        "done", n_images=60, seconds=5400.0, disk_bytes=5e6, memory_bytes=7e8,
        bottleneck="model", trial_images=60,
    )  # fmt: skip
    card = desk.state.stage("embed")
    assert card.status == "missing"
    assert "1 h 30 min" in card.message.text
    assert "700 MB" in card.message.text
    assert "the encoder" in card.message.kept


class Stack:
    """What an image layer of napari offers."""

    def __init__(self, data, name="my/../stack", *, rgb=False) -> None:
        self.data, self.name, self.rgb = data, name, rgb


Stack.__name__ = "Image"


def test_an_image_layer_becomes_a_project(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMBED_DATA", str(tmp_path / "data"))
    desk = Desk(tmp_path)
    images = np.arange(7 * 5 * 6, dtype=np.uint16).reshape(7, 5, 6)
    desk.controller.open_stack(Stack(images))
    assert desk.engine.jobs[-1].name == "create"
    source = Path(desk.engine.arguments[-1]["source"])
    assert source.parent == tmp_path / "data" / "layers"  # whatever the name says
    np.testing.assert_array_equal(np.load(source), images)
    desk.engine.send("cancelled")
    desk.controller.open_stack(Stack(np.zeros((9, 8))))
    assert "(9, 8)" in desk.state.message.text
    desk.controller.open_stack(Stack(np.zeros((3, 9, 8, 3)), rgb=True))
    assert np.load(Path(desk.engine.arguments[-1]["source"])).shape == (3, 9, 8, 3)
    desk.controller.open_stack(None)
    assert "Select an image layer" in desk.state.message.text
