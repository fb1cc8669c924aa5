"""Make again what `verify` finds damaged, and nothing else.

Each stage is made again as it was: with its stored settings, and only if the same
encoder on the same source is at hand. Where it is not, its damaged parts stay as they
are and are named with the reason: whole rows beside a damaged chunk are worth keeping.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_embed.engine.embedding import (
    OWN_VECTORS,
    embed_images,
    import_positions,
    import_vectors,
    make_thumbnails,
    prepare,
)
from napari_embed.engine.inspection import run_inspect
from napari_embed.engine.learning import fit_as_before
from napari_embed.engine.pipeline import run_neighbors, run_projection
from napari_embed.engine.progress import JobControl
from napari_embed.errors import EmbedError, InputError, JobCancelled
from napari_embed.params import EmbedParams, NeighborParams, ProjectionParams

if TYPE_CHECKING:
    from napari_embed.encoders import Encoder
    from napari_embed.project import Problem, Project

__all__ = ["Repair", "run_repair"]

Remake = Callable[[], object]

ORDER = (
    "checkpoints", "pieces", "encoders", "embeddings", "thumbnails", "measures",
    "neighbors", "projections",
)  # fmt: skip
"""What is made from what: the first words of stage keys."""

NO_COPY = "cannot be made again: restore it from a backup"
GOES_ON = "belongs to an unfinished step, which makes it again when it goes on"


@dataclass
class Repair:
    """What a repair found and did.

    Attributes
    ----------
    found
        Damaged or missing files, each with the reason.
    left
        (file, why) of what is still damaged, or waits for an unfinished step.
    seconds
        Time it took.
    """

    found: list[str]
    left: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "found": self.found,
            "left": [list(pair) for pair in self.left],
            "n_mended": len(self.found) - len(self.left),
            "seconds": self.seconds,
        }


def run_repair(
    project: Project, control: JobControl, *, encoder: Encoder | None = None
) -> Repair:
    """Verify a project, make damaged chunks again, and verify it once more.

    Parameters
    ----------
    project
        Open for writing.
    control
        Progress out, cancel and pause in.
    encoder
        One of your own, for vectors that it had made.

    Raises
    ------
    JobCancelled
        If the user asked to stop; what was damaged and is not yet made again is
        pending.
    """
    started = time.monotonic()
    check = control.reporter("verify", unit="files")
    problems = project.verify(progress=check)
    mender = _Mender(project, control, encoder)
    stages: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        stages[problem.stage].append(problem)
    reasons = {"": NO_COPY}
    remakes: dict[str, Remake] = {}
    keys = sorted((key for key in stages if key), key=_rank)
    for key in keys:
        with _told(reasons, key):
            reasons[key] = mender.make_ready(key, stages[key], remakes)
    # Only now: what makes one stage again may find another one pending.
    for key in keys:
        if key in remakes:
            with _told(reasons, key):
                remakes[key]()
    left = [(p.path, reasons[p.stage]) for p in problems if reasons[p.stage]]
    again = project.verify(progress=check) if problems else []
    left += [(p.path, p.reason) for p in again if not reasons.get(p.stage)]
    return Repair([str(p) for p in problems], left, time.monotonic() - started)


def _rank(key: str) -> tuple[int, str]:
    kind = key.partition("/")[0]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), key)


@contextlib.contextmanager
def _told(reasons: dict[str, str], key: str) -> Iterator[None]:
    """Turn what goes wrong with one stage into its reason; the others go on."""
    try:
        yield
    except JobCancelled:
        raise
    except EmbedError as error:
        reasons[key] = str(error)


def _numbers(problems: list[Problem]) -> list[int]:
    """Return the damaged chunks; metadata are written anew when a stage begins."""
    return sorted({p.chunk for p in problems if p.chunk is not None})


@dataclass(frozen=True)
class _Mender:
    """Knows how each stage of one project is made again."""

    project: Project
    control: JobControl
    own: Encoder | None

    def make_ready(
        self, key: str, problems: list[Problem], remakes: dict[str, Remake]
    ) -> str:
        """Make damaged parts of a stage pending; note in ``remakes`` how to go on.

        Returns why it cannot be made again now, or "".
        """
        kind, _, name = key.partition("/")
        if kind in ("checkpoints", "pieces"):
            self.project.invalidate_chunks(key)
            return ""
        if kind == "encoders":
            return self._learn_again(name)
        stored = self.project.stage_info(key)
        if kind not in ORDER or stored.state == "missing":
            return NO_COPY
        chunked = kind in ("embeddings", "thumbnails", "measures")
        if chunked and stored.state == "partial":
            self.project.invalidate_chunks(key, _numbers(problems))
            return GOES_ON
        # Whatever is missing for it is to be said before anything is changed.
        remakes[key] = getattr(self, f"_{kind}")(name)
        self.project.invalidate_chunks(key, _numbers(problems) if chunked else None)
        return ""

    def _encoder_of(self, name: str) -> tuple[EmbedParams, Encoder | None]:
        """Return the settings of some embeddings, and their encoder if it was given."""
        stored = self.project.stage_info(f"embeddings/{name}")
        if not stored.params:
            raise InputError("its settings are not known")
        params = EmbedParams.from_dict(dict(stored.params))
        given = self.own is not None and self.own.name == params.encoder
        return params, self.own if given else None

    def _learn_again(self, name: str) -> str:
        """Let an encoder learn what it had learned; keep it only if it is the same."""
        params, own = self._encoder_of(name)
        run = prepare(self.project, params, self.control, encoder=own)
        if not run.encoder.needs_fit:
            return "this encoder learns nothing in this version"
        same = fit_as_before(
            self.project, run.sample, run.encoder, self.control, name=name,
            made_of=run.fingerprint,
        )  # fmt: skip
        changed = "the images have changed, so the encoder would learn something else"
        return "" if same else changed

    def _embeddings(self, name: str) -> Remake:
        if name == OWN_VECTORS:
            self.project.source()
            return lambda: import_vectors(self.project, self.control)
        params, own = self._encoder_of(name)
        run = prepare(self.project, params, self.control, encoder=own)
        stored = self.project.stage_info(f"embeddings/{name}")
        if run.fingerprint != stored.fingerprint:
            raise InputError(
                "the encoder is another one than it was made with; make all vectors "
                f"anew: napari-embed embed --encoder {params.encoder}"
            )
        return lambda: embed_images(self.project, params, self.control, encoder=own)

    def _thumbnails(self, _: str) -> Remake:
        self.project.source()
        encoded = any(
            s.key.startswith("embeddings/") and s.key != f"embeddings/{OWN_VECTORS}"
            for s in self.project.stages()
        )
        return lambda: make_thumbnails(
            self.project, self.control, note_unread=not encoded
        )

    def _measures(self, _: str) -> Remake:
        self.project.source()
        return lambda: run_inspect(self.project, self.control)

    def _neighbors(self, name: str) -> Remake:
        stored = self.project.stage_info(f"neighbors/{name}")
        params = NeighborParams.from_dict(dict(stored.params))
        least = int(stored.info.get("k_wanted") or 1)
        return lambda: run_neighbors(
            self.project, params, self.control, embeddings=name, at_least=least
        )

    def _projections(self, name: str) -> Remake:
        stored = self.project.stage_info(f"projections/{name}")
        if stored.info.get("method") == "given":
            self.project.source()
            return lambda: import_positions(self.project)
        params = ProjectionParams.from_dict(dict(stored.params))
        embeddings = str(stored.info.get("embeddings") or "") or None
        return lambda: run_projection(
            self.project, params, self.control, embeddings=embeddings, name=name
        )
