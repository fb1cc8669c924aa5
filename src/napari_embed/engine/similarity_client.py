"""Ask the engine process for similar items; the vectors stay there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_embed.curation.filters import Result
from napari_embed.engine.client import EngineClient, Event, Job
from napari_embed.engine.likeness import Likeness, result_from_answer
from napari_embed.engine.progress import Progress
from napari_embed.project.manifest import read_manifest

__all__ = ["SimilaritySearch"]


class SimilaritySearch:
    """Runs searches for similar items in an engine process.

    Give it a client of its own, so that a search does not wait for an embedding.
    Searches only read the project. The first one of a project reads its vectors, the
    next ones take them from memory.

    Parameters
    ----------
    client
        Starts its process with the first search.
    project_path
        The project's folder.
    """

    def __init__(self, client: EngineClient, project_path: str | Path) -> None:
        self._client = client
        self._path = Path(project_path).absolute()

    def submit(
        self,
        likeness: Likeness,
        done: Callable[[Result], None],
        failed: Callable[[Exception], None],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Job:
        """Start a search.

        Parameters
        ----------
        likeness
            What to look for.
        done, failed, progress
            Called on the client's reader thread; a cancelled search fails with
            `JobCancelled`.

        Raises
        ------
        InputError
            If the likeness cannot be looked for.
        """
        request = likeness.to_request(read_manifest(self._path).n_items)
        title = likeness.title()

        def follow(event: Event) -> None:
            if event.progress is not None and progress is not None:
                progress(event.progress)
            if not event.final:
                return
            error = event.error
            if error is not None:
                failed(error)
            else:
                done(result_from_answer(event.data, title))

        return self._client.submit(
            "similar", follow, project_path=str(self._path), **request
        )

    def run(self, likeness: Likeness) -> Result:
        """Search and wait; raises what the search fails with."""
        request = likeness.to_request(read_manifest(self._path).n_items)
        job = self._client.submit("similar", project_path=str(self._path), **request)
        return result_from_answer(job.wait(), likeness.title())

    def warm(self, embeddings: str | None = None) -> Job:
        """Let the engine load the vectors ahead of the first search."""
        return self._client.submit(
            "warm", project_path=str(self._path), embeddings=embeddings
        )
