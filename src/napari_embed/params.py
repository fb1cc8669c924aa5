"""Frozen settings of every stage, with validation and canonical JSON.

A setting that changes a result belongs here: the fingerprint of a stage is the hash of
its settings, of what it was computed from, and of the code version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

from napari_embed.errors import InputError

__all__ = [
    "PRESETS",
    "EmbedParams",
    "NeighborParams",
    "Params",
    "ProjectionParams",
    "canonical_json",
    "fingerprint",
]


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, equal for equal settings.

    Raises
    ------
    InputError
        If a value has no JSON form, NaN and Inf included.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"Settings must be plain finite values: {error}") from error


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that identify ``parts`` (settings, upstream, version)."""
    text = canonical_json(list(parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InputError(f"{name} must be {expected}, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Base of all settings: to and from plain dictionaries."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values.

        Raises
        ------
        InputError
            If a key is unknown or a value is out of range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(
                f"Unknown setting {', '.join(unknown)} for {cls.__name__}. "
                f"Known: {', '.join(sorted(known))}."
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class EmbedParams(Params):
    """How images become vectors.

    Attributes
    ----------
    encoder
        Name in the encoder registry; "descriptor" needs no download.
    weights
        Path of a weights file for encoders that need one, else None.
    batch_size
        Images per forward pass; None lets the encoder find it.
    device
        "auto", "cpu" or "cuda".
    random_state
        Seed of the sample that fits the descriptor's PCA.
    """

    encoder: str = "descriptor"
    weights: str | None = None
    batch_size: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        _check(bool(self.encoder), "encoder", self.encoder, "a name")
        if self.batch_size is not None:
            _check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _check(self.device in ("auto", "cpu", "cuda"), "device", self.device,
               "'auto', 'cpu' or 'cuda'")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NeighborParams(Params):
    """How the neighbor graph is built.

    Attributes
    ----------
    n_neighbors
        k; t-SNE wants about 3 x perplexity. Clipped to n - 1.
    metric
        "auto" takes the encoder's own ("cosine" for unit-like vectors).
    method
        "auto" chooses by size; "exact", "ivf" and "hnsw" force one.
    device
        "auto", "cpu" or "cuda" (needs faiss-gpu).
    random_state
        Seed of index training and of the recall sample.
    """

    n_neighbors: int = 90
    metric: Literal["auto", "euclidean", "cosine"] = "auto"
    method: Literal["auto", "exact", "ivf", "hnsw"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        _check(self.n_neighbors >= 1, "n_neighbors", self.n_neighbors, "1 or more")
        _check(self.metric in ("auto", "euclidean", "cosine"), "metric", self.metric,
               "'auto', 'euclidean' or 'cosine'")  # fmt: skip
        _check(self.method in ("auto", "exact", "ivf", "hnsw"), "method", self.method,
               "'auto', 'exact', 'ivf' or 'hnsw'")  # fmt: skip
        _check(self.device in ("auto", "cpu", "cuda"), "device", self.device,
               "'auto', 'cpu' or 'cuda'")  # fmt: skip


PRESETS = ("fast", "default", "accurate", "paper")


@dataclass(frozen=True, kw_only=True)
class ProjectionParams(Params):
    """How vectors become a map.

    Attributes
    ----------
    method
        "tsne", or "pca" for an instant linear map.
    n_components
        2 or 3.
    perplexity
        Effective number of neighbors; must be under the graph's k.
    preset
        "fast", "default" or "accurate" sets theta and cell size; "paper" does what was
        published, optimizer and all, for comparison.
    theta
        Overrides the preset's accuracy when given (0 is exact).
    cell_size
        Overrides the preset's field cell size, in map units.
    target
        "auto", "cells" (field hierarchy) or "points" (embedding hierarchy; not with
        "paper", which knows cells alone).
    max_iter
        Iterations in all, early exaggeration included.
    early_exaggeration, early_exaggeration_iter
        Factor on P and for how many iterations.
    late_exaggeration, late_exaggeration_iter
        Factor on P in the last iterations of ``max_iter``, and in how many; 1 is off.
        Tighter groups, further apart. All iterations then run.
    learning_rate
        A number, for the gradient without its factor 4, or "auto" for
        max(200, n / exaggeration), and for 800 with "paper".
    init
        "pca", "random", or "auto": "pca", and with "paper" its random start.
    early_stop
        Stop when the relative KL gain per 50 iterations falls below 1e-4.
    device
        "auto", "cpu" or "cuda".
    random_state
        Seed of the start and of its jitter.
    """

    method: Literal["tsne", "pca"] = "tsne"
    n_components: int = 3
    perplexity: float = 30.0
    preset: str = "default"
    theta: float | None = None
    cell_size: float | None = None
    target: Literal["auto", "cells", "points"] = "auto"
    max_iter: int = 750
    early_exaggeration: float = 12.0
    early_exaggeration_iter: int = 250
    late_exaggeration: float = 1.0
    late_exaggeration_iter: int = 250
    learning_rate: float | Literal["auto"] = "auto"
    init: Literal["auto", "pca", "random"] = "auto"
    early_stop: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        _check(self.method in ("tsne", "pca"), "method", self.method, "'tsne' or 'pca'")
        _check(self.n_components in (2, 3), "n_components", self.n_components, "2 or 3")
        _check(self.perplexity > 0, "perplexity", self.perplexity, "positive")
        _check(self.preset in PRESETS, "preset", self.preset, f"one of {PRESETS}")
        if self.theta is not None:
            _check(self.theta >= 0, "theta", self.theta, "0 or more")
        if self.cell_size is not None:
            _check(self.cell_size > 0, "cell_size", self.cell_size, "positive")
        _check(self.target in ("auto", "cells", "points"), "target", self.target,
               "'auto', 'cells' or 'points'")  # fmt: skip
        _check(self.max_iter >= 1, "max_iter", self.max_iter, "1 or more")
        _check(self.early_exaggeration >= 1, "early_exaggeration",
               self.early_exaggeration, "1 or more")  # fmt: skip
        _check(self.early_exaggeration_iter >= 0, "early_exaggeration_iter",
               self.early_exaggeration_iter, "0 or more")  # fmt: skip
        _check(1 <= self.late_exaggeration < float("inf"), "late_exaggeration",
               self.late_exaggeration, "finite and 1 or more")  # fmt: skip
        _check(self.late_exaggeration_iter >= 0, "late_exaggeration_iter",
               self.late_exaggeration_iter, "0 or more")  # fmt: skip
        if self.learning_rate != "auto":
            _check(self.learning_rate > 0, "learning_rate", self.learning_rate,
                   "positive or 'auto'")  # fmt: skip
        _check(self.init in ("auto", "pca", "random"), "init", self.init,
               "'auto', 'pca' or 'random'")  # fmt: skip
        if self.preset == "paper":
            _check(self.target != "points", "target", self.target,
                   "'auto' or 'cells' with the preset 'paper'")  # fmt: skip
        _check(self.device in ("auto", "cpu", "cuda"), "device", self.device,
               "'auto', 'cpu' or 'cuda'")  # fmt: skip
