"""Finding all objects of all pictures: block by block, in threads, with a memory.

What was found in a picture is kept in the cache folder under a name that changes with
its labels. So an interrupted scan goes on where it was, and one after an edit reads
only the pictures that were edited.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from napari_embed.errors import InputError
from napari_embed.sources.objects.fields import Field, Fields
from napari_embed.sources.objects.measure import (
    OBJECT_DTYPE,
    measure_block,
    merge_objects,
)
from napari_embed.sources.objects.volume import Geometry, Span, Volume
from napari_embed.sources.reading import map_in_order

__all__ = ["FieldObjects", "scan_fields"]

_log = logging.getLogger(__name__)

SCAN_VERSION = 1
# Pixels of a block: large enough that a task is worth a thread, 32 MiB at 8 bytes.
_BLOCK_PIXELS = 1 << 22
_KEPT_DAYS = 30
# Pictures are scanned together until there is enough to do for all threads.
_BATCH_BLOCKS = 64
_BATCH_BYTES = 128 << 20
_UNKNOWN = Geometry((1.0, 1.0, 1.0), None, 1)
_MOST_PLAUSIBLE = 50_000_000


@dataclass(frozen=True)
class FieldObjects:
    """The objects of one picture.

    Attributes
    ----------
    field
        Which picture.
    objects
        `OBJECT_DTYPE`, in pixels of the labels.
    geometry
        How the labels lie on the picture.
    problem
        Why there are none, or "".
    """

    field: Field
    objects: NDArray[np.void]
    geometry: Geometry
    problem: str = ""


def scan_fields(
    fields: Fields,
    *,
    place: str,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[FieldObjects]:
    """Yield the objects of each picture, in order.

    Parameters
    ----------
    fields
        The pictures.
    place
        Of the source; names its part of the cache.
    progress
        Called with (objects found, 0); may raise to stop, what was found is kept.
    """
    cache = _Cache(f"{place}\0{fields.labels}")
    found = 0
    for result in _scanned(fields, cache):
        found += len(result.objects)
        if progress is not None:
            progress(found, 0)
        yield result


@dataclass
class _Open:
    """A picture while it is scanned."""

    field: Field
    name: str
    geometry: Geometry = _UNKNOWN
    labels: Volume | None = None
    known: NDArray[np.void] | None = None
    problem: str = ""

    @property
    def in_memory(self) -> bool:
        """Whether the labels were read from a file as a whole."""
        return self.labels is not None and isinstance(self.labels.array, np.ndarray)


def _scanned(fields: Fields, cache: _Cache) -> Iterator[FieldObjects]:
    """Scan pictures together until a batch has enough blocks for all threads."""
    waiting: list[_Open] = []
    blocks = held = 0
    for field in fields.names:
        one = _begin(fields, field, cache)
        waiting.append(one)
        if one.labels is not None:
            blocks += len(_blocks(one.labels))
            held += getattr(one.labels.array, "nbytes", 0) if one.in_memory else 0
        if blocks >= _BATCH_BLOCKS or held >= _BATCH_BYTES:
            yield from _scan_batch(waiting, cache)
            waiting, blocks, held = [], 0, 0
    yield from _scan_batch(waiting, cache)


def _begin(fields: Fields, field: Field, cache: _Cache) -> _Open:
    try:
        name = cache.name(field.key, fields.signature(field))
        known, opened = cache.load(name), fields.open(field)
        if known is not None:
            return _Open(field, name, opened.geometry, known=known)
        return _Open(field, name, opened.geometry, opened.labels)
    except (InputError, OSError) as error:
        return _Open(field, "", problem=str(error))


def _scan_batch(waiting: list[_Open], cache: _Cache) -> Iterator[FieldObjects]:
    """Yield the objects of some pictures, each as soon as its blocks are done."""
    tasks = [
        (one.labels, t, block)
        for one in waiting if one.labels is not None
        for t in range(one.labels.size("t")) for block in _blocks(one.labels)
    ]  # fmt: skip
    results = map_in_order(_try_measure, tasks, group=1)
    for one in waiting:
        if one.labels is None:
            empty = np.zeros(0, OBJECT_DTYPE)
            known = one.known if one.known is not None else empty
            yield FieldObjects(one.field, known, one.geometry, one.problem)
            continue
        objects, problem = _collect(one.labels, results)
        if not problem:
            cache.save(one.name, objects)
        yield FieldObjects(one.field, objects, one.geometry, problem)


def _collect(labels: Volume, results: Iterator[Any]) -> tuple[NDArray[np.void], str]:
    found, problem = [], ""
    for t in range(labels.size("t")):
        parts = []
        for _ in _blocks(labels):
            part = next(results)
            if isinstance(part, str):
                problem = problem or part
            else:
                parts.append(part)
        found.append(merge_objects(parts, t=t, shape=labels.shape))
    if problem:
        return np.zeros(0, OBJECT_DTYPE), problem
    return np.concatenate(found), ""


def _try_measure(task: tuple[Volume, int, tuple[Span, Span, Span]]) -> Any:
    """Return the parts of a block, or why it cannot be read."""
    labels, t, (z, y, x) = task
    try:
        block = labels.cut(t, z, y, x)[0]
        return measure_block(block, (z[0], y[0], x[0]))
    except InputError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  codecs of foreign chunks raise anything
        return f"a block of its labels cannot be read: {str(error)[:200]}"


def _blocks(labels: Volume) -> list[tuple[Span, Span, Span]]:
    """Return boxes that cover an image: whole chunks, about `_BLOCK_PIXELS` each."""
    shape, step = labels.shape, list(labels.chunks())
    for axis in (2, 1, 0):
        while np.prod(step) * 2 <= _BLOCK_PIXELS and step[axis] < shape[axis]:
            step[axis] *= 2
    starts = [range(0, n, s) for n, s in zip(shape, step, strict=True)]

    def span(axis: int, start: int) -> Span:
        return start, min(start + step[axis], shape[axis])

    return [
        (span(0, z), span(1, y), span(2, x))
        for z in starts[0] for y in starts[1] for x in starts[2]
    ]  # fmt: skip


class _Cache:
    """Objects of pictures that were scanned; losing it costs time only."""

    def __init__(self, place: str) -> None:
        moved = os.environ.get("NAPARI_EMBED_CACHE")
        base = Path(moved) if moved else user_cache_path("napari-embed")
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
        self._folder: Path | None = base / "objects" / digest[:24]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_old(base / "objects")
        except OSError as error:
            _log.info("Scans are not kept: %s", error)
            self._folder = None

    def name(self, key: str, signature: str) -> str:
        text = f"{SCAN_VERSION}\0{key}\0{signature}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def load(self, name: str) -> NDArray[np.void] | None:
        """Return what was kept; a damaged file counts as none."""
        if self._folder is None:
            return None
        try:
            found = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        good = found.dtype == OBJECT_DTYPE and found.ndim == 1
        return found if good and found.size <= _MOST_PLAUSIBLE else None

    def save(self, name: str, objects: NDArray[np.void]) -> None:
        if self._folder is None:
            return
        part = self._folder / f"{name}.{os.getpid()}.part"
        try:
            with open(part, "wb") as file:
                np.save(file, objects, allow_pickle=False)
            os.replace(part, self._folder / f"{name}.npy")
        except OSError as error:
            _log.info("A scan is not kept: %s", error)
            with suppress(OSError):
                part.unlink()

    def _remove_old(self, base: Path) -> None:
        """Remove what nobody has used for a month."""
        limit = time.time() - 86_400 * _KEPT_DAYS
        for path in base.glob("*/*"):
            with suppress(OSError):
                if path.stat().st_mtime < limit:
                    path.unlink()
