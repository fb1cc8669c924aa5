"""Ask the engine process for problems; for a window, which must not wait or compute."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_embed.curation.ids import Ids, item_ids
from napari_embed.curation.problems.duplicates import DuplicatePairs
from napari_embed.curation.problems.findings import Finding
from napari_embed.curation.problems.given import Codes
from napari_embed.engine.client import EngineClient, Event, Job
from napari_embed.engine.finding import PAIRS, most_bytes
from napari_embed.engine.progress import Progress
from napari_embed.project.manifest import read_manifest
from napari_embed.project.npz import read_npz, write_npz

__all__ = ["Finder"]

Result = TypeVar("Result")


class Finder:
    """Runs searches for problems in an engine process.

    Give it a client of its own, so that a search does not wait for an embedding.
    Searches only read the project.

    Parameters
    ----------
    client
        Starts its process with the first search.
    project_path
        The project's folder.
    """

    def __init__(self, client: EngineClient, project_path: Path) -> None:
        self._client = client
        self._path = Path(project_path).absolute()

    def submit(
        self,
        kind: str,
        done: Callable[[Finding], None],
        failed: Callable[[Exception], None],
        *,
        progress: Callable[[Progress], None] | None = None,
        within: Ids | None = None,
        labels: Codes | None = None,
        labelled: Ids | None = None,
        **options: Any,
    ) -> Job:
        """Start a search; see `napari_embed.curation.problems.find` for kinds.

        Parameters
        ----------
        kind
            One of ``FIND_KINDS``.
        done, failed, progress
            Called on the client's reader thread; a cancelled search fails with
            `JobCancelled`.
        within, labels, labelled
            Arrays that the search may need.
        options
            Plain values: the other options of that search.
        """
        return _Search(
            self._client, self._path, kind, Finding.from_arrays, done, failed, progress
        ).start(options, within=within, labels=labels, labelled=labelled)

    def submit_pairs(
        self,
        done: Callable[[DuplicatePairs], None],
        failed: Callable[[Exception], None],
        *,
        progress: Callable[[Progress], None] | None = None,
        within: Ids | None = None,
        **options: Any,
    ) -> Job:
        """Start to collect the pairs that a slider then cuts into near-duplicates."""
        return _Search(
            self._client, self._path, PAIRS, DuplicatePairs.from_arrays, done, failed,
            progress,
        ).start(options, within=within)  # fmt: skip

    def run(
        self,
        kind: str,
        *,
        progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> Finding:
        """Run a search and wait for it; raises what it fails with."""
        answer = _Answer[Finding]()
        self.submit(kind, answer.done, answer.failed, progress=progress, **options)
        return answer.wait()

    def run_pairs(
        self, *, progress: Callable[[Progress], None] | None = None, **options: Any
    ) -> DuplicatePairs:
        """Collect pairs and wait for them; raises what it fails with."""
        answer = _Answer[DuplicatePairs]()
        self.submit_pairs(answer.done, answer.failed, progress=progress, **options)
        return answer.wait()


class _Search:
    """One search: its files, and what its reports lead to."""

    def __init__(
        self,
        client: EngineClient,
        path: Path,
        kind: str,
        read: Callable[[dict[str, NDArray[Any]]], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._client, self._path, self._kind, self._read = client, path, kind, read
        self._done, self._failed, self._progress = done, failed, progress
        self._folder = tempfile.TemporaryDirectory(prefix="napari-embed-")

    def start(
        self,
        options: dict[str, Any],
        *,
        within: Ids | None = None,
        labels: Codes | None = None,
        labelled: Ids | None = None,
    ) -> Job:
        """Hand over the job; files are gone when it is over."""
        try:
            self._n_items = read_manifest(self._path).n_items
            given = self._given(within, labels, labelled)
            return self._client.submit(
                "find", self._follow, project_path=str(self._path), kind=self._kind,
                options=options, given=given, out=str(self._out),
            )  # fmt: skip
        except BaseException:
            self._folder.cleanup()
            raise

    @property
    def _out(self) -> Path:
        return Path(self._folder.name) / "found.npz"

    def _given(
        self, within: Ids | None, labels: Codes | None, labelled: Ids | None
    ) -> str | None:
        """Write what a message cannot hold; return the file."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, ids in (("within", within), ("labelled", labelled)):
            if ids is not None:
                arrays[name] = item_ids(ids, self._n_items)
        if labels is not None:
            arrays["codes"] = np.asarray(labels[0], np.int32)
            arrays["names"] = np.array([str(name) for name in labels[1]], str)
        if not arrays:
            return None
        path = Path(self._folder.name) / "given.npz"
        write_npz(path, arrays)
        return str(path)

    def _follow(self, event: Event) -> None:
        if not event.final:
            if event.progress is not None and self._progress is not None:
                self._progress(event.progress)
            return
        try:
            if event.error is not None:
                raise event.error
            arrays = read_npz(self._out, most_bytes=most_bytes(self._n_items))
            result = self._read(arrays)
        except Exception as error:  # noqa: BLE001  handed to whoever asked
            self._failed(error)
            return
        finally:
            self._folder.cleanup()
        self._done(result)


class _Answer(Generic[Result]):
    """Waits for what a search hands over."""

    def __init__(self) -> None:
        self._future: Future[Result] = Future()
        self.done = self._future.set_result
        self.failed = self._future.set_exception

    def wait(self) -> Result:
        """Return the result, or raise what it failed with."""
        return self._future.result()
