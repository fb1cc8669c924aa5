"""Stand-ins for canvas, engine and project: the controller is tested without Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from napari_embed.arrays import Projection
from napari_embed.engine.client import Event
from napari_embed.gui.controller import Controller
from napari_embed.gui.history import History
from napari_embed.gui.settings import RecentProjects


class FakeMap:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.on_selection: Callable[[int], None] | None = None
        self.on_excluded: Callable[[int], None] | None = None
        self.on_removed: Callable[[], None] | None = None
        self.on_ndisplay: Callable[[int], None] | None = None
        self.on_display: Callable[[Any], None] | None = None
        self.history = History()
        self.calls: list[tuple[str, Any]] = []
        self.mask = np.zeros(0, dtype=bool)
        self.visible = np.zeros(0, dtype=bool)
        self.out = np.zeros(0, dtype=bool)
        self.positions: np.ndarray | None = None
        self.read: Any = None

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def show(self, positions: np.ndarray, *, name: str, n_components: int) -> None:
        self.calls.append(("show", (name, n_components)))
        if len(self.mask) != len(positions):
            self.mask = np.zeros(len(positions), dtype=bool)
        self.positions = positions

    def prepare(self, n: int) -> None:
        pass

    def arrive(self, positions: np.ndarray, *, then: Any, **wish: Any) -> None:
        then()

    def leave(self, then: Any, failed: Any) -> None:
        then()

    def set_ndisplay(self, d: int) -> None:
        self.calls.append(("ndisplay", d))

    def update_positions(self, positions: np.ndarray) -> None:
        self.calls.append(("update_positions", None))
        self.positions = positions

    def clear(self) -> None:
        self.calls.append(("clear", None))
        self.history.clear()
        self.positions = None
        self.mask = np.zeros(0, dtype=bool)

    def set_thumbnails(self, read: Any, captions: Any = None) -> None:
        self.read = read

    def color_by_categories(
        self, codes: np.ndarray, palette: np.ndarray, *, column: str, names: Any
    ) -> None:
        self.calls.append(("categories", (codes, palette)))

    def color_by_values(self, values: np.ndarray, colormap: str, limits: Any) -> None:
        self.calls.append(("values", (values, colormap, limits)))

    def color_plain(self) -> None:
        self.calls.append(("plain", None))

    def set_visible(self, mask: np.ndarray) -> None:
        self.calls.append(("visible", mask.copy()))
        self.visible = mask.copy()

    def selection(self) -> np.ndarray:
        return self.mask

    def _changed(self) -> None:
        if self.on_selection is not None:
            self.on_selection(int(self.mask.sum()))

    def select(self, what: Any, how: str = "replace") -> None:
        mask = np.zeros(len(self.mask), dtype=bool)
        mask[what] = True
        self.mask = mask if how == "replace" else self.mask | mask
        self._changed()

    def invert_selection(self) -> None:
        self.mask = ~self.mask & self.visible
        self._changed()

    def clear_selection(self) -> None:
        self.mask = np.zeros(len(self.mask), dtype=bool)
        self._changed()

    def excluded(self) -> np.ndarray:
        if len(self.out) != len(self.mask):
            return np.zeros(len(self.mask), dtype=bool)
        return self.out

    def set_excluded(self, mask: np.ndarray) -> None:
        self.calls.append(("excluded", mask.copy()))
        self.out = mask.copy()
        if self.on_excluded is not None:
            self.on_excluded(int(self.out.sum()))

    def exclude_selected(self) -> None:
        self.calls.append(("exclude", None))

    def include_all(self) -> None:
        self.calls.append(("include", None))

    def set_select_mode(self, how: str) -> None:
        self.calls.append(("mode", how))

    def set_display(self, settings: Any) -> None:
        self.calls.append(("display", settings))

    def set_tool(self, tool: str) -> None:
        self.calls.append(("tool", tool))

    def fit_selection(self) -> None:
        self.calls.append(("fit", None))

    def stand(self) -> Any:
        return None

    def look_from(self, stand: Any) -> None:
        self.calls.append(("look_from", stand))

    def page(self) -> Any:
        return None

    def turn_to(self, page: Any) -> None:
        self.calls.append(("turn_to", page))

    def close(self) -> None:
        self.calls.append(("close", None))


class FakeJob:
    def __init__(self, engine: FakeEngine, name: str) -> None:
        self.engine, self.name = engine, name
        self.wishes: list[str] = []

    def cancel(self) -> None:
        self.wishes.append("cancel")

    def pause(self) -> None:
        self.wishes.append("pause")

    def resume(self) -> None:
        self.wishes.append("resume")

    def stop(self) -> None:
        self.wishes.append("stop")


class FakeEngine:
    """Accepts jobs; the test sends their reports."""

    def __init__(self) -> None:
        self.jobs: list[FakeJob] = []
        self.arguments: list[dict[str, Any]] = []
        self._listeners: list[Callable[[Event], None]] = []
        self.closed = False

    def submit(
        self, job: str, on_event: Callable[[Event], None], **arguments: Any
    ) -> FakeJob:
        self.jobs.append(FakeJob(self, job))
        self.arguments.append(arguments)
        self._listeners.append(on_event)
        return self.jobs[-1]

    def send(self, kind: str, index: int = -1, **data: Any) -> None:
        self._listeners[index](Event(len(self.jobs), kind, data))

    def close(self) -> None:
        self.closed = True


class FakeProject:
    """A project of n items in memory."""

    def __init__(self, path: Path, n: int = 60, **more: Any) -> None:
        self.path, self.name, self.n_items = path, path.stem, n
        self.spec = SimpleNamespace(
            kind=more.pop("kind", "folder"), path="/photos", options={}
        )
        self.has_images = self.spec.kind != "vectors"
        self.projections: dict[str, Projection] = more.pop("projections", {})
        self.stage_list: list[Any] = more.pop("stages", [])
        self.values: dict[str, list[Any]] = more.pop(
            "values", {"label": [["cat", "dog", "owl"][i % 3] for i in range(n)]}
        )
        self.failures: list[dict[str, Any]] = more.pop("failures", [])
        self.closed = False
        self.refreshed = 0

    def columns(self) -> list[str]:
        return ["source", *self.values]

    def items(self, columns: Any = None, rows: Any = None) -> pa.Table:
        source = [f"{i}.png" for i in range(self.n_items)]
        table = pa.table(
            {"id": np.arange(self.n_items), "source": source, **self.values}
        )
        if columns is not None:
            table = table.select(columns)
        if rows is None:
            return table
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.n_items)
            return table.slice(start, stop - start)
        return table.take(pa.array(np.asarray(rows)))

    def column_values(self, name: str) -> np.ndarray:
        return np.array(self.values[name])

    def categories(self, name: str) -> tuple[np.ndarray, list[str]]:
        names = sorted({v for v in self.values[name] if v is not None})
        codes = [-1 if v is None else names.index(v) for v in self.values[name]]
        return np.array(codes, dtype=np.int32), names

    def projection_names(self) -> list[str]:
        return list(self.projections)

    def read_projection(self, name: str) -> Projection:
        return self.projections[name]

    def stages(self) -> list[Any]:
        return self.stage_list

    def stage_info(self, key: str) -> Any:
        return next(
            (s for s in self.stage_list if s.key == key),
            SimpleNamespace(key=key, state="missing", info={}, params={}),
        )

    def errors(self) -> pa.Table:
        schema = pa.schema(
            [("id", pa.int64()), ("source", pa.string()), ("stage", pa.string()),
             ("reason", pa.string())]
        )  # fmt: skip
        return pa.Table.from_pylist(self.failures, schema=schema)

    def size_on_disk(self) -> int:
        return 1_234_567

    def read_thumbnails(self, ids: Any) -> np.ndarray:
        return np.zeros((len(ids), 8, 8, 3), dtype=np.uint8)

    def thumbnail_available(self, ids: Any) -> np.ndarray:
        return np.ones(len(ids), dtype=bool)

    def refresh(self) -> None:
        self.refreshed += 1

    def close(self) -> None:
        self.closed = True


def stage_entry(key: str, state: str = "sealed", **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, state=state, params=more.pop("params", {}),
        fingerprint=more.pop("fingerprint", "f"),
        upstream=more.pop("upstream", ""),
        info=more.pop("info", {}), chunks_done=more.pop("done", 1),
        chunks_total=more.pop("total", 1),
    )  # fmt: skip


def projection(n: int, d: int, seed: int = 0) -> Projection:
    positions = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return Projection(positions, kl_divergence=1.25, n_iter=750)


class Desk:
    """A controller with fakes around it."""

    def __init__(self, folder: Path, **project: Any) -> None:
        self.map = FakeMap()
        self.engine = FakeEngine()
        self.engines_started = 0
        self.path = make_project_folder(folder / "photos.embed")
        self.project = FakeProject(self.path, **project)
        self.opened: list[Path] = []
        self.open_error: Exception | None = None
        self.controller = Controller(
            map_view=self.map,
            engine_factory=self._start,
            open_project=self._open,
            threaded=False,
            recent=RecentProjects(folder / "recent.json"),
        )

    def _start(self) -> FakeEngine:
        self.engines_started += 1
        return self.engine

    def _open(self, path: Path) -> FakeProject:
        self.opened.append(path)
        if self.open_error is not None:
            raise self.open_error
        return self.project

    @property
    def state(self) -> Any:
        return self.controller.state


def make_project_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "project.json").write_text("{}")
    return path
