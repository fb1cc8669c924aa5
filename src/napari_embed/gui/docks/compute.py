"""The Compute panel: Embed, Neighbours, Projection as three cards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QToolButton,
    QWidget,
)

from napari_embed.encoders import EncoderInfo, list_encoders
from napari_embed.gui.docks.advanced import AdvancedForm
from napari_embed.gui.docks.curve import CurvePlan, KLPlot, phase_words
from napari_embed.gui.docks.gone import when_gone
from napari_embed.gui.docks.panel import Panel
from napari_embed.gui.docks.parts import (
    Card,
    Fold,
    MessageBar,
    ProgressLine,
    button,
    elided,
    label,
    set_role,
)
from napari_embed.gui.docks.style import GAP_PX, Colors
from napari_embed.gui.state import (
    STAGES,
    ComputeSettings,
    ProgressView,
    Stage,
    StageView,
    ViewState,
)
from napari_embed.gui.summary import OWN_VECTORS

__all__ = ["ComputePanel"]

TITLES: dict[Stage, str] = {
    "embed": "1  Embed",
    "neighbors": "2  Neighbours",
    "projection": "3  Projection",
}
PURPOSE: dict[Stage, str] = {
    "embed": "Describes each image by a list of numbers",
    "neighbors": "Finds the most similar items of each",
    "projection": "Lays similar items out side by side",
}
STATUS_WORDS = {
    "missing": ("not yet", "muted"),
    "partial": ("unfinished", "warn"),
    "stale": ("settings changed", "warn"),
    "done": ("done", "good"),
    "queued": ("waiting", "muted"),
    "running": ("running", "heading"),
    "paused": ("paused", "warn"),
    "cancelling": ("stopping", "warn"),
}


class StageCard(Card):
    """One stage: state, result, progress, Start / Pause / Cancel, message.

    Parameters
    ----------
    stage
        Which one.
    panel
        The panel it belongs to.
    """

    def __init__(self, stage: Stage, panel: ComputePanel) -> None:
        super().__init__(TITLES[stage])
        self.stage = stage
        compute = panel.controller.compute
        self.extra = QHBoxLayout()
        self.summary = elided("muted")
        self.progress = ProgressLine()
        self.start = button("Start", lambda: compute.start_stage(stage))
        self.retry = button(
            "Retry failed",
            compute.retry_failed,
            tip="Try the images again that could not be read",
        )
        self.estimate = button(
            "Estimate", compute.estimate,
            tip="Try some images and say what all of them take: time, disk, memory",
        )  # fmt: skip
        self.pause = button("Pause", self._pause_or_resume)
        self.stop = button(
            "Keep this map", compute.stop, tip="End the layout now and keep the map"
        )
        self.cancel = button("Cancel", compute.cancel, tip="Finished work is kept")
        self._compute = compute
        self._paused = False
        self._is_encoding = stage == "embed"
        self.message = MessageBar(panel.act, lambda: compute.dismiss(stage))
        self.header.addWidget(self.estimate)
        self.header.addWidget(self.start)
        self.header.addWidget(self.retry)
        self.running_row = QWidget()
        set_role(self.running_row, "plain")
        row = QHBoxLayout(self.running_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP_PX)
        for made in (self.pause, self.cancel, self.stop):
            row.addWidget(made)
        row.addStretch(1)
        self.body.addWidget(self.summary)
        self.body.addLayout(self.extra)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.message)
        self.body.addWidget(self.running_row)

    def _pause_or_resume(self) -> None:
        if self._paused:
            self._compute.resume()
        else:
            self._compute.pause()

    def show_stage(self, view: StageView, *, startable: bool) -> None:
        """Show the state of the stage."""
        words, role = STATUS_WORDS[view.status]
        self.set_state(words, role)
        self.summary.setText(view.summary or PURPOSE[self.stage])
        running = view.status in ("running", "paused", "cancelling")
        self._paused = view.status == "paused"
        self.progress.setVisible(running)
        if running:
            self.progress.show_progress(
                view.progress or ProgressView(), paused=self._paused
            )
        self.summary.setVisible(not running)
        # What is done with these settings has nothing to start.
        self.start.setVisible(not view.active and view.status != "done")
        self.start.setEnabled(startable)
        self.estimate.setVisible(self.start.isVisibleTo(self) and self._is_encoding)
        self.estimate.setEnabled(startable)
        self.start.setText("Redo" if view.status == "stale" else "Start")
        self.retry.setVisible(view.status == "done" and view.n_failed > 0)
        self.retry.setEnabled(startable)
        self.pause.setVisible(view.status in ("running", "paused"))
        self.pause.setText("Resume" if self._paused else "Pause")
        self.running_row.setVisible(running)
        self.cancel.setEnabled(view.status != "cancelling")
        self.stop.setVisible(
            self.stage == "projection" and view.status in ("running", "paused")
        )
        self.message.show_message(view.message)


class ComputePanel(Panel):
    """From images to a map: choose an encoder, press Run all."""

    def build(self) -> None:
        """Make the widgets."""
        self.empty = label(
            "Open images or a project in the Project panel first.", "muted", wrap=True
        )
        self.run_all = button(
            "Run all", self.controller.compute.run_all, role="primary",
            tip="Embed, find neighbours and lay out a map; what is done is not redone",
        )  # fmt: skip
        self.content.addWidget(self.empty)
        self.content.addWidget(self.run_all)
        self.cards = {stage: StageCard(stage, self) for stage in STAGES}
        self._build_encoder(self.cards["embed"])
        self._build_projection(self.cards["projection"])
        for card in self.cards.values():
            self.content.addWidget(card)
        self.advanced = AdvancedForm(self._change)
        self.advanced.show(self.controller.compute.settings)
        self.advanced_fold = Fold("Advanced", self.advanced.native)
        self.content.addWidget(self.advanced_fold)
        self.device = elided("muted")
        self.content.addWidget(self.device)
        self.content.addStretch(1)
        self._follow_kl()

    def _build_encoder(self, card: StageCard) -> None:
        self.encoders = {info.name: info for info in list_encoders()}
        self.encoder = QComboBox()
        self.encoder.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.encoder.setMinimumContentsLength(12)
        for info in self.encoders.values():
            self.encoder.addItem(info.title, info.name)
            self.encoder.setItemData(
                self.encoder.count() - 1,
                encoder_words(info),
                3,  # Qt's ToolTipRole
            )
        self.encoder.setToolTip("What turns an image into numbers")
        self.weights = QToolButton()
        self.weights.setText("Weights\N{HORIZONTAL ELLIPSIS}")
        self.weights.setToolTip("Choose a file with the encoder's weights")
        self.weights.clicked.connect(lambda _checked=False: self._choose_weights())
        card.extra.addWidget(self.encoder, 1)
        card.extra.addWidget(self.weights)
        self.encoder_note = label("", "muted", wrap=True)
        card.body.insertWidget(3, self.encoder_note)
        self.encoder.activated.connect(lambda _index: self._encoder_chosen())

    def _build_projection(self, card: StageCard) -> None:
        self.dimensions = QButtonGroup(self)
        for d in (2, 3):
            made = QToolButton()
            made.setText(f"{d}D")
            made.setCheckable(True)
            made.setToolTip(f"Lay the map out in {d} dimensions")
            self.dimensions.addButton(made, d)
            card.extra.addWidget(made)
        card.extra.addStretch(1)
        self.dimensions.idClicked.connect(self._dimensions_chosen)
        self.spark = KLPlot()
        card.body.insertWidget(3, self.spark)

    def _follow_kl(self) -> None:
        signal, follow = self.controller.kl_reported, self.spark.follow
        for iteration, value in self.controller.compute.curve:
            follow(iteration, value)
        signal.connect(follow)
        when_gone(self, lambda: signal.disconnect(follow))

    def set_colors(self, colors: Colors) -> None:
        """Take the colours of the viewer's theme."""
        super().set_colors(colors)
        self.spark.set_colors(colors)

    # --- wishes ------------------------------------------------------------------

    def act(self, action: str) -> None:
        """Do what the button of a message offers."""
        compute = self.controller.compute
        if action == "use_default_encoder":
            compute.use_default_encoder()
        elif action == "retry":
            compute.retry()

    def _change(self, apply: Callable[[ComputeSettings], ComputeSettings]) -> None:
        compute = self.controller.compute
        compute.set_settings(apply(compute.settings))

    def _encoder_chosen(self) -> None:
        name = str(self.encoder.currentData())
        self._change(
            lambda old: replace(
                old, embed=replace(old.embed, encoder=name, weights=None)
            )
        )

    def _choose_weights(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Weights of the encoder", "", "Weights (*.pth *.pt *.safetensors)"
        )
        if path:
            self._change(
                lambda old: replace(old, embed=replace(old.embed, weights=path))
            )

    def _dimensions_chosen(self, d: int) -> None:
        self._change(
            lambda old: replace(old, projection=replace(old.projection, n_components=d))
        )

    # --- showing -----------------------------------------------------------------

    def show_state(self, new: ViewState, old: ViewState) -> None:
        """Show the cards, or that there is nothing to compute."""
        info = new.project
        is_open = info is not None
        self.empty.setVisible(not is_open)
        free = is_open and not new.running and not new.busy
        done = is_open and all(s.status == "done" for s in new.stages)
        self.run_all.setEnabled(free and not done)
        self.run_all.setText(
            "Running" if new.running else "Up to date" if done else "Run all"
        )
        for stage, card in self.cards.items():
            card.show_stage(new.stage(stage), startable=free)
            card.setEnabled(is_open)
        has_images = info.has_images if info is not None else True
        self.encoder.setEnabled(free)
        self.encoder.setVisible(has_images)
        if not has_images:
            self.cards["embed"].estimate.setVisible(False)
        self._show_encoder(new, has_images)
        wish = new.settings.projection.device
        self.device.setText(
            f"Computes on {new.device}"
            if new.device and wish != "cpu"
            else "Computes on the CPU"
            if wish == "cpu"
            else "Computes on a GPU if there is one"
        )
        for made in self.dimensions.buttons():
            made.setEnabled(free)
        settings = new.settings
        chosen = self.dimensions.button(settings.projection.n_components)
        if chosen is not None:
            chosen.setChecked(True)
        self.advanced.show(settings)
        self.advanced.native.setEnabled(free)
        compute = self.controller.compute
        progress = new.stage("projection").progress
        params = settings.projection
        phase = phase_words(params, progress.done) if progress else ""
        self.spark.set_plan(CurvePlan.of(params), phase)
        self.spark.setVisible(
            compute.live or (compute.has_curve and bool(self.spark.points))
        )

    def _show_encoder(self, new: ViewState, has_images: bool) -> None:
        embed = new.settings.embed
        snapshot = self.controller.snapshot
        own = snapshot is not None and f"embeddings/{OWN_VECTORS}" in snapshot.stages
        place = self.encoder.findData(OWN_VECTORS)
        if own and place < 0:
            self.encoder.insertItem(0, "Your own vectors", OWN_VECTORS)
        elif place >= 0 and not own:
            self.encoder.removeItem(place)
        index = self.encoder.findData(embed.encoder)
        if index >= 0:
            self.encoder.setCurrentIndex(index)
        info = self.encoders.get(embed.encoder)
        self.weights.setVisible(has_images and takes_weights(info))
        if not has_images or embed.encoder == OWN_VECTORS:
            text = "Your own vectors are used; no encoder is needed."
        elif info is None:
            text = f"The project was embedded with {embed.encoder}."
        else:
            text = encoder_note(info, tuple(self.encoders.values()), embed.weights)
        self.encoder_note.setText(text)


def takes_weights(info: EncoderInfo | None) -> bool:
    """Return whether an encoder can be given a file with its weights."""
    return info is not None and info.takes_weights


def encoder_words(info: EncoderInfo) -> str:
    """Return what an encoder is good for and what it needs."""
    return "\n".join(
        part
        for part in (
            info.description,
            f"{info.dim} numbers per image.",
            info.requirement,
        )
        if part
    )


def encoder_note(
    info: EncoderInfo, encoders: tuple[EncoderInfo, ...], weights: str | None
) -> str:
    """Return the sentence under the choice: what it needs, or what would be better."""
    if weights:
        return f"Weights: {weights}"
    if info.requirement:
        return info.requirement
    better = next((e for e in encoders if e.name != info.name), None)
    if info.name != "descriptor" or better is None:
        return info.description
    need = better.requirement or "it is ready to use"
    return (
        "Fast, needs no download; good for simple shapes. Better on photographs and "
        f"cells: {better.title} ({need.rstrip('.')})."
    )
