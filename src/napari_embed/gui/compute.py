"""The computing half of the controller: settings, requests, live map. No Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_embed.errors import EmbedError
from napari_embed.gui.jobs import ComputeQueue, JobRequest
from napari_embed.gui.live import LivePositions
from napari_embed.gui.state import (
    STAGES,
    ComputeSettings,
    Message,
    ProjectionInfo,
    Stage,
    StageView,
)
from napari_embed.gui.summary import (
    Snapshot,
    changes_told,
    embeddings_name,
    estimate_told,
    mended_told,
    notes_told,
    projection_name,
    stage_views,
)

if TYPE_CHECKING:
    from napari_embed.gui.controller import Controller
    from napari_embed.sources import SourceSpec

__all__ = ["Compute"]

_MENDING = "Embedding edited objects"


class Compute:
    """Turns settings into jobs and their reports into the controller's state.

    Parameters
    ----------
    controller
        Whose state is kept.
    queue
        Runs the jobs.
    """

    def __init__(self, controller: Controller, queue: ComputeQueue) -> None:
        self._controller = controller
        self.queue = queue
        self.settings = ComputeSettings()
        self._live: LivePositions | None = None
        self._live_name = ""
        self.curve: list[tuple[int, float]] = []
        self._target: Path | None = None
        self._chain: tuple[Stage, ...] = ()
        self._before: ProjectionInfo | None = None
        self._asked_device = False
        # What a look at edited objects has found, and how many jobs are to come.
        self._changes: dict[str, Any] = {}
        self._mending = 0
        queue.changed.connect(self._changed)
        queue.finished.connect(self._finished)
        queue.stopped.connect(self._stopped)
        queue.reported.connect(self._reported)

    # --- wishes ------------------------------------------------------------------

    def set_settings(self, settings: ComputeSettings) -> None:
        """Take new settings; cards whose result no longer fits become stale."""
        self.settings = settings
        self._changed()

    def adopt(self, snapshot: Snapshot) -> None:
        """Take over the encoder that an opened project was embedded with.

        What failed in the project before, and its curve, are forgotten.
        """
        for stage in STAGES:
            self.queue.dismiss(stage)
        self._live_name = ""
        self._report_kl(0, math.nan)
        done = [
            key.split("/", 1)[1]
            for key, entry in snapshot.stages.items()
            if key.startswith("embeddings/") and entry.state in ("sealed", "partial")
        ]
        if not done or snapshot.own_vectors:
            return
        entry = snapshot.stages[f"embeddings/{done[0]}"]
        encoder = (entry.params or {}).get("encoder", done[0])
        self.settings = replace(
            self.settings, embed=replace(self.settings.embed, encoder=str(encoder))
        )

    def create(
        self, source: Path | None, target: Path, *, spec: SourceSpec | None = None
    ) -> None:
        """Make a project of ``source`` (None: the bundled sample) at ``target``.

        ``spec`` describes it where a path does not say all.
        """
        self._target = target
        arguments: dict[str, Any] = {
            "path": str(target),
            "source": "sample" if source is None else str(source.absolute()),
        }
        if spec is not None:
            arguments["spec"] = spec.to_dict()
        self.queue.start([JobRequest("create", "create", arguments)])

    def look_for_changes(self) -> None:
        """Find files of the open project that came, changed or went."""
        self._ask_source("rescan", "Looking for changes")

    def mend_objects(self, write: Callable[[], None]) -> None:
        """Write edited labels, find what they change, and embed only that.

        ``write`` is called on the reading thread.
        """
        snapshot = self._controller.snapshot
        if snapshot is None or self.queue.busy or self._controller.state.busy:
            return
        self._target = snapshot.info.path
        self._controller.update(busy=_MENDING, message=None, opening=None)
        arguments = {"path": str(snapshot.info.path)}
        jobs = [JobRequest("source", "rescan", arguments)]
        if any(key.startswith("embeddings/") for key in snapshot.stages):
            embed = self._request("embed", snapshot).arguments
            jobs.append(JobRequest("source", "embed", embed))

        def failed(error: Exception) -> None:
            self._controller.update(busy="")
            self._controller.fail(error, kept="Nothing was changed.")

        self._controller.read(
            "mend",
            lambda _project: write(),
            lambda _none: self._mend(jobs),
            failed=failed,
        )

    def _mend(self, jobs: list[JobRequest]) -> None:
        self._changes, self._mending = {}, len(jobs)
        self.queue.start(jobs)

    def move_source(self, place: str) -> None:
        """Tell the open project where its source is now."""
        self._ask_source("reroot", "Looking at the new place", place=place)

    def _ask_source(self, job: str, words: str, **more: str) -> None:
        snapshot = self._controller.snapshot
        if snapshot is None or self.queue.busy:
            return
        self._target = snapshot.info.path
        self._controller.update(busy=words, message=None, opening=None)
        arguments = {"path": str(snapshot.info.path)} | more
        self.queue.start([JobRequest("source", job, arguments)])

    def estimate(self) -> None:
        """Say on the first card what embedding will take."""
        snapshot = self._controller.snapshot
        if snapshot is None or self.queue.busy:
            return
        self.queue.dismiss("embed")
        arguments = self._request("embed", snapshot).arguments
        self.queue.start([JobRequest("embed", "estimate", arguments)])

    def start(self, stages: Sequence[Stage]) -> None:
        """Compute these stages, in order."""
        snapshot = self._controller.snapshot
        if snapshot is None or self.queue.busy:
            return
        for stage in stages:
            self.queue.dismiss(stage)
        self._chain = tuple(stages)
        self.queue.start([self._request(stage, snapshot) for stage in stages])

    def run_all(self) -> None:
        """Compute what is missing or stale, up to the map; all of it when all is done.

        Stages whose results still fit are finished by the engine at once.
        """
        self.start(STAGES)

    def retry(self) -> None:
        """Start the stage that failed, and what was to follow it."""
        failed = next((v.stage for v in self.stage_views() if v.message), None)
        if failed in self._chain:
            self.start(self._chain[self._chain.index(failed) :])
        elif failed is not None:
            self.start_stage(failed)

    def start_stage(self, stage: Stage) -> None:
        """Compute one stage, and before it what it needs."""
        views = {v.stage: v for v in self.stage_views()}
        index = STAGES.index(stage)
        first = next(
            (i for i in range(index) if views[STAGES[i]].status != "done"), index
        )
        self.start(STAGES[first : index + 1])

    def retry_failed(self) -> None:
        """Try the images again that could not be read."""
        snapshot = self._controller.snapshot
        if snapshot is None or self.queue.busy:
            return
        request = self._request("embed", snapshot)
        arguments = {**request.arguments, "retry_failed": True}
        self.queue.start([replace(request, arguments=arguments)])

    def pause(self) -> None:
        """Let the running job wait."""
        self.queue.pause()

    def resume(self) -> None:
        """Let it go on."""
        self.queue.resume()

    def cancel(self) -> None:
        """Stop the running job; finished work is kept."""
        self.queue.cancel()

    def stop(self) -> None:
        """End the running projection now and keep its map."""
        self.queue.stop()

    def dismiss(self, stage: str) -> None:
        """Take a card's message away."""
        self.queue.dismiss(stage)

    def use_default_encoder(self) -> None:
        """Go back to the encoder that needs no download."""
        embed = replace(self.settings.embed, encoder="descriptor", weights=None)
        self.set_settings(replace(self.settings, embed=embed))

    # --- requests ----------------------------------------------------------------

    def _request(self, stage: Stage, snapshot: Snapshot) -> JobRequest:
        embeddings = embeddings_name(
            self.settings.embed.encoder, own_vectors=snapshot.own_vectors
        )
        arguments: dict[str, Any] = {"path": str(snapshot.info.path)}
        if stage == "embed":
            arguments["params"] = self.settings.embed.to_dict()
            return JobRequest(stage, "embed", arguments)
        arguments["embeddings"] = embeddings
        if stage == "neighbors":
            arguments["params"] = self.settings.neighbors.to_dict()
            return JobRequest(stage, "neighbors", arguments)
        params = self.settings.projection
        arguments["params"] = params.to_dict()
        arguments["neighbors"] = self.settings.neighbors.to_dict()
        name = arguments["name"] = projection_name(snapshot, self.settings)
        n, d = snapshot.info.n_items, params.n_components
        return JobRequest(
            stage, "project", arguments, before=lambda: self._start_live(n, d, name)
        )

    # --- live map ----------------------------------------------------------------

    def _start_live(self, n: int, d: int, name: str) -> dict[str, Any]:
        self._end_live()
        self._report_kl(0, math.nan)
        try:
            self._live = LivePositions(n, d)
        except EmbedError as error:
            # The map is computed all the same; it is shown when it is done.
            self._controller.tell(Message(str(error), level="warning"))
            return {}
        self._live_name = name
        self._before = self._controller.state.projection
        return {"positions": self._live.name}

    def poll_live(self) -> bool:
        """Show positions that are new; return whether there were any."""
        positions = self._live.poll() if self._live is not None else None
        if positions is None:
            return False
        self._controller.show_live(positions, self._live_name)
        return True

    @property
    def has_curve(self) -> bool:
        """Whether the KL divergence that was reported is of the map in the settings."""
        snapshot = self._controller.snapshot
        return snapshot is not None and self._live_name == projection_name(
            snapshot, self.settings
        )

    @property
    def live(self) -> bool:
        """Whether a map is being computed in view."""
        return self._live is not None

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    # --- reports -----------------------------------------------------------------

    def stage_views(self) -> tuple[StageView, ...]:
        """Return the three cards."""
        return stage_views(self._controller.snapshot, self.queue.runs, self.settings)

    def _changed(self) -> None:
        runs = self.queue.runs
        run = runs.get("create") or runs.get("source")
        changes: dict[str, Any] = {
            "stages": self.stage_views(),
            "settings": self.settings,
        }
        if run is not None and run.status in ("running", "cancelling"):
            changes["opening"] = run.progress
        self._controller.update(**changes)

    def _learn_device(self) -> None:
        """Ask the engine once what it computes on; it runs anyway by now."""
        if self._asked_device:
            return
        self._asked_device = True

        def answer(data: dict[str, Any]) -> None:
            cpus = int(data.get("cpus") or 1)
            cores = f"CPU, {cpus} core{'s' if cpus > 1 else ''}"
            self._controller.update(device=str(data.get("gpu") or cores))

        self.queue.ask("info", answer)

    def _finished(self, stage: str, result: dict[str, Any]) -> None:
        self._learn_device()
        if stage == "create":
            assert self._target is not None
            told = notes_told(result)
            self._controller.open_project(self._target, told=told)
        elif stage == "source" and self._mending > 1:
            self._changes, self._mending = result, self._mending - 1
        elif stage == "source":
            assert self._target is not None
            told = changes_told(result)
            if self._changes:
                told = mended_told(self._changes, result)
            self._changes, self._mending = {}, 0
            self._controller.open_project(self._target, told=told)
        elif "trial_images" in result:
            self.queue.say("embed", estimate_told(result))
        elif stage == "projection":
            self.poll_live()
            self._end_live()
            name = str(result.get("name") or self._live_name)
            self._controller.refresh(show=name)
            if len(self._chain) > 1:
                self._controller.panel_wanted.emit("explore")
        else:
            self._controller.refresh()

    def _stopped(self, stage: str, reason: str) -> None:
        if stage in ("create", "source"):
            changes, self._changes, self._mending = self._changes, {}, 0
            run = self.queue.runs.pop(stage, None)
            told = run.message if run is not None else None
            self._controller.update(busy="", opening=None)
            if changes and self._target is not None:
                # The list of items is another one already.
                told = told or changes_told(changes)
                self._controller.open_project(self._target, told=told)
            elif told is not None:
                self._controller.tell(told)
            return
        if stage == "projection":
            self._end_live()
            self._controller.drop_live(self._before)
        self._controller.refresh()

    def _reported(self, stage: str, kind: str, data: dict[str, Any]) -> None:
        if kind == "kl":
            value = data.get("kl_divergence", data.get("kl"))
            if isinstance(value, int | float):
                self._report_kl(int(data.get("iteration") or 0), float(value))
        elif kind == "positions":
            self.poll_live()

    def _report_kl(self, iteration: int, value: float) -> None:
        if iteration == 0:
            self.curve.clear()
        else:
            self.curve.append((iteration, value))
        self._controller.kl_reported.emit(iteration, value)

    def close(self) -> None:
        """End the engine process and remove shared memory."""
        self.queue.close()
        self._end_live()
