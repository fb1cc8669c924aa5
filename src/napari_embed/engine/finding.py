"""Searches for problems in the engine process; the result travels as a file.

A list of a million items does not belong into a message of one line, and NumPy's npz
without pickle is read back in milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_embed.curation.problems import duplicate_pairs, find
from napari_embed.curation.problems.searching import call_checked
from napari_embed.engine.progress import JobControl
from napari_embed.errors import InputError
from napari_embed.project.npz import read_npz, write_npz

if TYPE_CHECKING:
    from napari_embed.project.reader import ProjectReader

__all__ = ["GIVEN", "PAIRS", "find_to_file", "most_bytes"]

PAIRS = "pairs"
"""Instead of a kind of finding: the pairs that near-duplicates are cut from."""
GIVEN = ("within", "labelled", "codes", "names", "probabilities")
"""Arrays that a search may be given in a file."""

_BYTES_PER_ITEM = 1024
_BYTES_BESIDE = 1 << 30


def most_bytes(n_items: int) -> int:
    """Return what a file about so many items can take at most."""
    return n_items * _BYTES_PER_ITEM + _BYTES_BESIDE


def find_to_file(
    project: ProjectReader, arguments: dict[str, Any], control: JobControl
) -> dict[str, Any]:
    """Run one search and write its result.

    Parameters
    ----------
    project
        Open for reading.
    arguments
        ``kind`` (or "pairs"), ``options`` (plain values), ``given`` (None, or an npz
        with some of `GIVEN`) and ``out`` (the npz to write).
    control
        Progress out, cancel in.
    """
    kind = str(arguments.get("kind"))
    options = dict(arguments.get("options") or {})
    if arguments.get("given"):
        options |= _given(project, Path(str(arguments["given"])))
    progress = control.reporter(kind.replace("-", " "), unit="steps")
    progress(0, 1)
    if kind == PAIRS:
        found = call_checked(
            duplicate_pairs, project=project, progress=progress, **options
        )
    else:
        found = find(project, kind, progress=progress, **options)
    control.check()
    write_npz(Path(str(arguments["out"])), found.to_arrays())
    return {"kind": kind, "title": "" if kind == PAIRS else found.title}


def _given(project: ProjectReader, path: Path) -> dict[str, Any]:
    """Return the options that came as arrays."""
    arrays = read_npz(path, most_bytes=most_bytes(project.n_items))
    unknown = set(arrays) - set(GIVEN)
    if unknown:
        raise InputError(f"A search is not given {', '.join(sorted(unknown))!s:.200}.")
    options: dict[str, Any] = {
        name: arrays[name]
        for name in ("within", "labelled", "probabilities")
        if name in arrays
    }
    if "codes" in arrays:
        names = [str(name) for name in np.atleast_1d(arrays["names"])]
        options["labels"] = (arrays["codes"], names)
    return options
