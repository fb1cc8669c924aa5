"""The walls of docs/architecture.md, held by reading the source.

A folder imports only from stations below it; heavy and graphical libraries stay where
they belong; nothing that could run code from a data file is called.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src/napari_embed"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"errors", "params", "arrays"}
# station -> stations it may import from, besides the ground and itself
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "params": set(),
    "arrays": set(),
    "__init__": {"errors"},
    "kernels": set(),
    "sources": set(),
    "encoders": set(),
    "tsne": {"kernels"},
    "data": set(),
    "project": {"sources"},
    "curation": {"project", "sources"},
    "engine": {"kernels", "sources", "encoders", "tsne", "project", "curation"},
    "gui": {"sources", "encoders", "project", "curation", "engine"},
    "collection": {"project", "curation", "engine"},
    "cli": {"sources", "encoders", "project", "curation", "engine", "collection"},
    "__main__": {"cli"},
}
GRAPHICAL = {"napari", "qtpy", "vispy", "magicgui", "superqt", "PyQt6", "PySide6"}
# library -> stations that may import it
HOMES: dict[str, set[str]] = {
    "taichi": {"kernels"},
    "torch": {"kernels", "encoders", "tsne", "engine"},
    "torchvision": {"encoders"},
    "timm": {"encoders"},
    "open_clip": {"encoders"},
    "faiss": {"tsne"},
    "zarr": {"sources", "project", "curation"},
    "sqlite3": {"project"},
    "dask": {"engine"},
    "distributed": {"engine"},
    "duckdb": {"curation"},
    "click": {"cli"},
    "rich": {"cli"},
} | {name: {"gui"} for name in GRAPHICAL}
ENGINE_ONLY = ("torch", "taichi", "faiss", "torchvision")
MOST_FILE_LINES = 600
MOST_FUNCTION_LINES = 80


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _station(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _module(path: Path) -> str:
    parts = ("napari_embed", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def _imports(
    path: Path, *, top_level: bool = False
) -> Iterator[tuple[str, tuple[str, ...], ast.stmt]]:
    tree = _parse(path)
    nodes: Iterator[ast.AST] = iter(tree.body) if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, (), node
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = _module(path).split(".")
                if path.name != "__init__.py":
                    base = base[:-1]
                base = base[: len(base) - node.level + 1]
                module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, tuple(a.name for a in node.names), node


def _ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_imports_only_downwards(path: Path) -> None:
    station = _station(path)
    allowed = MAY_IMPORT[station] | GROUND | {station}
    for module, names, node in _imports(path):
        if module != "napari_embed" and not module.startswith("napari_embed."):
            continue
        parts = module.split(".")
        targets = {parts[1]} if len(parts) > 1 else set(names) - {"__version__"}
        wrong = targets - allowed
        assert not wrong, f"{path}:{node.lineno} {station} must not import {wrong}"


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_libraries_stay_in_their_stations(path: Path) -> None:
    station = _station(path)
    for module, _, node in _imports(path):
        library = module.split(".")[0]
        homes = HOMES.get(library)
        assert homes is None or station in homes, (
            f"{path}:{node.lineno} {library} belongs to {homes}, not {station}"
        )


def test_only_the_runtime_touches_taichi_init() -> None:
    importers, starters = set(), set()
    for path in FILES:
        for module, _, _ in _imports(path):
            if module.split(".")[0] == "taichi":
                importers.add(_ids(path))
        for node in ast.walk(_parse(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "init"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("ti", "taichi")
            ):
                starters.add(_ids(path))
    assert importers <= {"kernels/runtime.py"}
    assert starters <= {"kernels/runtime.py"}


def test_no_import_cycle() -> None:
    modules = {_module(p): p for p in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        edges = set()
        for module, names, _ in _imports(path, top_level=True):
            edges |= {f"{module}.{n}" for n in names if f"{module}.{n}" in modules}
            if module in modules:
                edges.add(module)
        graph[name] = edges - {name}
    state: dict[str, int] = {}

    def visit(name: str, trail: list[str]) -> None:
        state[name] = 1
        for target in graph[name]:
            # A package's __init__ may be named by its own modules.
            if name.startswith(target + "."):
                continue
            assert state.get(target) != 1, f"cycle: {[*trail, name, target]}"
            if target not in state:
                visit(target, [*trail, name])
        state[name] = 2

    for name in graph:
        if name not in state:
            visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_code_habits(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_FILE_LINES, f"{path} has {len(lines)} lines: split it"
    for node in ast.walk(_parse(path)):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= MOST_FUNCTION_LINES, f"{where} {node.name}: {size} lines"
        elif isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where} bare except"
            caught = ast.unparse(node.type)
            if "BaseException" in caught or caught == "Exception":
                line = lines[node.lineno - 1]
                assert "BLE001" in line or _reraises(node), (
                    f"{where} a broad except needs `# noqa: BLE001` and a reason"
                )


def _reraises(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_nothing_runs_code_from_data(path: Path) -> None:
    for module, _, node in _imports(path):
        assert module.split(".")[0] not in FORBIDDEN_IMPORTS, f"{path}:{node.lineno}"
    for node in ast.walk(_parse(path)):
        if not isinstance(node, ast.Call):
            continue
        where = f"{path}:{node.lineno}"
        name = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert name not in ("eval", "exec", "os.fork", "faiss.read_index"), where
        assert name not in ("yaml.load", "torch.hub.load"), where
        assert not name.endswith("load_state_dict_from_url"), where
        assert keywords.get("allow_pickle", "False") == "False", where
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", where
        if name == "print":
            assert _station(path) == "cli", f"{where} print outside the command line"


def test_importing_the_package_is_light() -> None:
    heavy = [*ENGINE_ONLY, "zarr", "pyarrow", "qtpy", "napari", "sklearn", "PIL"]
    code = (
        "import sys, napari_embed, napari_embed.params, napari_embed.arrays\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "encoders",
        "project",
        "sources",
        "curation",
        "engine.client",
        "collection",
        "cli",
    ],
)
def test_what_the_window_imports_loads_no_engine(module: str) -> None:
    code = (
        f"import sys, napari_embed.{module}\n"
        f"print([m for m in {ENGINE_ONLY!r} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
