r"""Go the ways of docs/how-to in the real window, on real images, and take pictures.

Run it under a virtual screen, with the data described there::

    xvfb-run -a -s "-screen 0 1920x1080x24" python scripts/make_howto_pictures.py \
        --cifar cifar10_jpeg.tar.xz --fashion fashion10k_test.npz --work FOLDER

Every step is a press of the button that the page names; the script ends with what the
window says where a step does not lead to what the page promises. FOLDER keeps the
projects, so that a second run begins with finished maps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from make_screenshots import REPOSITORY, SMALL, Scene, compute

COPIES, BROKEN = 120, 3


def photos(archive: Path, work: Path) -> Path:
    """Return a folder of 10,000 photographs, with copies and broken files."""
    folder = work / "photos"
    if folder.exists():
        return folder
    with tarfile.open(archive) as tar:
        tar.extractall(
            work,
            [m for m in tar if m.name.startswith("cifar10/test/")],
            filter="data",
        )
    (work / "cifar10/test").rename(folder)
    rng = np.random.default_rng(0)
    files = sorted(folder.rglob("*.jpg"))
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    for number, at in enumerate(rng.choice(len(files), COPIES, replace=False)):
        other = classes[rng.integers(len(classes))]
        shutil.copy(files[at], other / f"copy {number:03d}.jpg")
    for number in range(BROKEN):
        (classes[number] / f"broken {number}.jpg").write_bytes(b"\xff\xd8 no image")
    return folder


def vectors(file: Path, work: Path) -> Path:
    """Return a table with vectors, classes and a number of Fashion-MNIST's images."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.decomposition import PCA

    table = work / "vectors.parquet"
    if table.exists():
        return table
    names = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
        "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    with np.load(file, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    found = PCA(50, random_state=0).fit_transform(flat).astype(np.float32)
    columns = {
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), 50),
        "label": [names[i] for i in labels],
        "ink": flat.mean(axis=1),
        "x": found[:, 0],
        "y": found[:, 1],
    }
    pq.write_table(pa.table(columns), table)
    return table


def open_typed(scene: Scene, path: Path) -> None:
    """Type a path in the Project panel and press Enter."""
    panel = scene.panels.project
    scene.panels.turn_to("project")
    panel.path_edit.setText(str(path))
    panel.path_edit.returnPressed.emit()
    state = lambda: scene.controller.state  # noqa: E731
    scene.need(lambda: state().project is not None and not state().busy)


def found(scene: Scene, kind: str) -> Any:
    """Choose a problem in Find, press Find, and wait for what is found."""
    from napari_embed.gui.found import PROBLEMS

    scene.panels.turn_to("find")
    panel, searches = scene.panels.find, scene.panels.session.searches
    before = searches.found
    panel.problem.setCurrentIndex([p.kind for p in PROBLEMS].index(kind))
    panel.run.click()
    scene.need(lambda: searches.found is not before and not searches.busy)
    return searches.found


def decided(scene: Scene, steps: int) -> Callable[[], bool]:
    """Return whether so many decisions stand."""
    return lambda: len(scene.controller.state.decisions.done) == steps


def export(scene: Scene, target: Path) -> None:
    """Write all items as Parquet through the Export panel."""
    target.unlink(missing_ok=True)
    scene.panels.turn_to("export")
    panel, exports = scene.panels.export, scene.panels.session.exports
    titles = [panel.kind.itemText(i) for i in range(panel.kind.count())]
    panel.kind.setCurrentIndex(titles.index("Parquet table"))
    panel.path.setText(str(target))
    panel.run.click()
    scene.need(lambda: exports.done is not None and target.is_file())


def clean(out: Path, folder: Path) -> None:
    """Clean a folder: open, compute, look, find copies, decide, undo, leave."""
    project = folder.with_suffix(".embed")
    scene = Scene(out, theme="dark", size=SMALL)
    open_typed(scene, folder)
    controller, panels = scene.controller, scene.panels
    n = controller.state.project.n_items
    if not controller.state.project.projections:
        panels.turn_to("compute")
        scene.picture("howto-clean-compute.png")
        compute(scene, 3, {"embed": "howto-clean-embed.png"})
    scene.show_map(project, "tsne-3d")
    panels.turn_to("project")
    panels.project.error_fold.toggle.click()
    scene.picture("howto-clean-opened.png", settle_s=1.5)
    panels.turn_to("explore")
    scene.lasso("ship", share=True)
    scene.picture("howto-clean-lasso.png", settle_s=2.0)
    controller.clear_selection()
    copies = found(scene, "duplicates")
    extra = int(copies.extra.size)
    sys.stdout.write(f"{n:,} items, {copies.title}, {extra} can go\n")
    scene.picture("howto-clean-copies.png", settle_s=2.0)
    panels.find.exclude.click()
    scene.need(decided(scene, 1))
    wrong = found(scene, "mislabels")
    sys.stdout.write(f"{wrong.title}\n")
    panels.turn_to("curate")
    controller.select(wrong.ids[:100])
    controller.new_tag("drop")
    controller.tag_items("drop")
    scene.need(decided(scene, 3))
    scene.picture("howto-clean-decided.png", settle_s=2.0)
    controller.clear_selection()
    export(scene, folder.with_name("kept.parquet"))
    scene.picture("howto-clean-export.png", settle_s=1.5)
    scene.close()


def own_vectors(out: Path, table: Path) -> None:
    """Open own vectors with a layout, compute a map beside it."""
    scene = Scene(out, theme="dark", size=SMALL)
    open_typed(scene, table)
    controller, panels = scene.controller, scene.panels
    scene.need(lambda: controller.state.projection is not None)
    scene.need(lambda: controller.colors_settled)
    panels.turn_to("explore")
    scene.picture("howto-vectors-given.png", settle_s=1.5)
    panels.turn_to("compute")
    compute(scene, 2, {})
    panels.turn_to("explore")
    scene.lasso("Bag")
    scene.picture("howto-vectors-map.png", settle_s=1.5)
    scene.close()


def main() -> None:
    """Read the arguments and go every way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/images")
    parser.add_argument("--work", type=Path, help="kept; else a temporary folder")
    parser.add_argument("--only", choices=("clean", "vectors"), help="one of the ways")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = wish.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        os.environ["NAPARI_CONFIG"] = str(Path(temporary) / "napari.yaml")
        os.environ["NAPARI_EMBED_SETTINGS"] = str(Path(temporary) / "settings")
        if wish.only in (None, "clean"):
            clean(wish.out, photos(wish.cifar, work))
        if wish.only in (None, "vectors"):
            own_vectors(wish.out, vectors(wish.fashion, work))


if __name__ == "__main__":
    main()
