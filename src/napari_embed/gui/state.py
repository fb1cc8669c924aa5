"""What the window shows, as frozen values that can be compared.

The controller resolves a wish (open this, colour by that) against the project into one
`ViewState`; views receive the old and the new one and change only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from napari_embed.curation.decisions import SavedSelection, SavedView, Step
from napari_embed.gui.display import DisplaySettings
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams

__all__ = [
    "STAGES",
    "ColumnInfo",
    "ComputeSettings",
    "DecisionsView",
    "ItemError",
    "Message",
    "ProgressView",
    "ProjectInfo",
    "ProjectionInfo",
    "SelectMode",
    "Stage",
    "StageView",
    "TagView",
    "Tool",
    "ViewState",
]

Stage = Literal["embed", "neighbors", "projection"]
STAGES: tuple[Stage, ...] = ("embed", "neighbors", "projection")
Tool = Literal["pan", "box", "lasso"]
SelectMode = Literal["replace", "add", "subtract", "intersect"]
StageStatus = Literal[
    "missing", "partial", "stale", "done",
    "queued", "running", "paused", "cancelling",
]  # fmt: skip
ACTIVE_STATUS = ("queued", "running", "paused", "cancelling")


@dataclass(frozen=True)
class ItemError:
    """One image that could not be used: where it is and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class ColumnInfo:
    """A column that can colour the points: of the items, or what was ``decided``."""

    name: str
    kind: Literal["category", "number"]
    decided: str = ""


@dataclass(frozen=True)
class ProjectionInfo:
    """A map of the project: its name and its number of dimensions (2 or 3)."""

    name: str
    n_components: int
    title: str


@dataclass(frozen=True)
class ProjectInfo:
    """What is in the open project.

    ``has_files`` says whether its items are files that come, change and go,
    ``source_is_there`` whether the source is where it was.
    """

    path: Path
    name: str
    n_items: int
    source: str
    has_images: bool
    encoders: tuple[str, ...] = ()
    projections: tuple[ProjectionInfo, ...] = ()
    columns: tuple[ColumnInfo, ...] = ()
    n_errors: int = 0
    errors: tuple[ItemError, ...] = ()
    size_bytes: int = 0
    has_files: bool = False
    source_is_there: bool = True

    def projection(self, name: str | None) -> ProjectionInfo | None:
        """Return the map called ``name``, or None."""
        return next((p for p in self.projections if p.name == name), None)


@dataclass(frozen=True)
class ProgressView:
    """How far a stage is; ``total`` 0 means that the end is not known.

    ``phase`` is what the stage is at ("affinities"), ``bottleneck`` what the rest of it
    waits for ("decode", "model", "disk").
    """

    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float | None = None
    eta_s: float | None = None
    message: str = ""
    phase: str = ""
    bottleneck: str = ""


@dataclass(frozen=True)
class Message:
    """Something to tell the user in place: cause, what was kept, one action.

    ``action`` is a key the view offers as a button with ``action_label``; both are
    empty when there is nothing to press.
    """

    text: str
    kept: str = ""
    level: Literal["info", "warning", "error"] = "info"
    action: str = ""
    action_label: str = ""


@dataclass(frozen=True)
class StageView:
    """One card: state, one line of result, progress while it runs, error if any."""

    stage: Stage
    status: StageStatus = "missing"
    summary: str = ""
    progress: ProgressView | None = None
    message: Message | None = None
    n_failed: int = 0

    @property
    def active(self) -> bool:
        """Whether a job holds this stage."""
        return self.status in ACTIVE_STATUS


@dataclass(frozen=True)
class ComputeSettings:
    """What the three stages will be run with."""

    embed: EmbedParams = field(default_factory=EmbedParams)
    neighbors: NeighborParams = field(default_factory=NeighborParams)
    projection: ProjectionParams = field(default_factory=ProjectionParams)


@dataclass(frozen=True)
class TagView:
    """A tag, its number key if it has one, and how many items have it."""

    name: str
    color: str
    shortcut: int | None
    count: int


@dataclass(frozen=True)
class DecisionsView:
    """What was decided about the items.

    Attributes
    ----------
    tags
        In the order they were made.
    labels
        The corrected labels that are in use.
    selections, views
        What was kept under a name.
    done, undone
        Steps that can be undone and redone, the next one first.
    read_only
        Why nothing can be kept, "" where it can.
    """

    tags: tuple[TagView, ...] = ()
    labels: tuple[str, ...] = ()
    selections: tuple[SavedSelection, ...] = ()
    views: tuple[SavedView, ...] = ()
    done: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()
    read_only: str = ""


@dataclass(frozen=True)
class ViewState:
    """Everything a view needs, arrays excluded (they travel by ``data_version``).

    Attributes
    ----------
    project
        The open project, or None.
    projection
        The map on the canvas, or None.
    ndisplay
        Dimensions on the screen; a 3D map may be seen flat.
    data_version
        Grows when positions of the same map were replaced.
    columns
        What can colour the points: columns of the items, then what was decided.
    color_column, color_kind, color_limits
        What colours the points; limits are (low, high) for numbers.
    color_version
        Grows when classes got other colours.
    hidden_classes
        Codes of the classes that are hidden (-1: items without a class).
    n_loaded, n_drawn, n_selected, n_excluded
        Points in the map, not hidden, selected; items taken out of it.
    decisions
        Tags and the like, None without a project that keeps them.
    undo_label, redo_label
        What undo and redo would do, "" for nothing.
    tool, select_mode
        What dragging does, and what happens to the selection then.
    display
        How points look, and what a frame and a lasso take in.
    device
        What the engine computes on, "" before it has told.
    busy
        What is being opened, or "".
    settings
        What the stages will be run with.
    """

    project: ProjectInfo | None = None
    projection: ProjectionInfo | None = None
    ndisplay: int = 2
    data_version: int = 0
    columns: tuple[ColumnInfo, ...] = ()
    color_column: str | None = None
    color_kind: Literal["none", "category", "number"] = "none"
    color_limits: tuple[float, float] = (0.0, 1.0)
    colormap: str = "viridis"
    color_version: int = 0
    hidden_classes: frozenset[int] = frozenset()
    n_loaded: int = 0
    n_drawn: int = 0
    n_selected: int = 0
    n_excluded: int = 0
    decisions: DecisionsView | None = None
    undo_label: str = ""
    redo_label: str = ""
    tool: Tool = "pan"
    select_mode: SelectMode = "replace"
    display: DisplaySettings = field(default_factory=DisplaySettings)
    device: str = ""
    busy: str = ""
    opening: ProgressView | None = None
    message: Message | None = None
    settings: ComputeSettings = field(default_factory=ComputeSettings)
    stages: tuple[StageView, ...] = field(
        default_factory=lambda: tuple(StageView(s) for s in STAGES)
    )

    def stage(self, name: str) -> StageView:
        """Return the card called ``name``."""
        return next(s for s in self.stages if s.stage == name)

    @property
    def running(self) -> bool:
        """Whether any stage holds a job."""
        return any(s.active for s in self.stages)
