"""What a stage reports when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["StageResult"]


@dataclass(frozen=True)
class StageResult:
    """The outcome of one stage.

    Attributes
    ----------
    stage
        "create", "embed", "neighbors" or "project".
    name
        Name of what was made: the project, the embeddings, the projection.
    computed
        False if it was there already and nothing had to be done.
    n_items, n_failed
        Items of the project, and how many of them have no result in this stage.
    n_done_now
        Items done in this run, the others were done before.
    seconds
        Wall time of this run.
    info
        More to show: device, KL, recall and the like.
    """

    stage: str
    name: str
    computed: bool
    n_items: int
    n_failed: int = 0
    n_done_now: int = 0
    seconds: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
