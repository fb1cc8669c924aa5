"""Clean a collection without a window: query, decide, undo, share, export.

Run it with a folder to work in::

    python docs/examples/clean_a_collection.py work/

It uses the bundled sample of 4,000 Fashion-MNIST images, so it needs no data. The same
steps work on any project that ``napari-embed new`` and ``napari-embed embed`` made.
"""

# %% A project of the sample, and vectors for its images
import sys
from pathlib import Path

from napari_embed.collection import open_project
from napari_embed.curation.exchange import export_decisions, merge_decisions
from napari_embed.curation.filters import Filter
from napari_embed.engine.client import EngineClient

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example")
folder.mkdir(parents=True, exist_ok=True)
path = folder / "sample.embed"

if not path.exists():
    with EngineClient() as engine:
        engine.submit("create", path=str(path), source="sample", kind="sample").wait()
        engine.submit("embed", path=str(path)).wait()

# %% Look: what is there?
with open_project(path, who="Ada") as images:
    print(images)
    print(images.query.counts("label"))

    # %% Choose by columns, as filters or as an SQL expression
    bags = images.filter(Filter("label", "in", ("Bag",)))
    few = images.where("label = 'Bag' AND id < 500")
    print(len(bags), len(few))

    # %% Choose by likeness: like one item, like several, like an image file
    first = int(bags.ids[0])
    like_one = images.similar(ids=[first], k=20)
    print(like_one)
    like_bags = bags.head(5).similar(mode="any", k=50)
    strange = like_bags.where("label != 'Bag'")
    print(len(strange), "of the nearest to five bags are labelled otherwise")

    # %% Decide: calls can be chained, and everything can be undone
    strange.tag("bag?").annotate("Near to bags, labelled otherwise.")
    images.items(like_one.ids[:3]).relabel("Handbag").save("handbags")
    images.where("'bag?' IN tags").exclude()
    print(images.decisions.tag_counts(), images.decisions.n_excluded)
    images.undo()
    images.redo()

    # %% Share the decisions alone; another person merges them into a copy
    decided = folder / "decisions.csv"
    export_decisions(images.project, images.decisions, decided, overwrite=True)
    print(merge_decisions(images.project, images.decisions, decided))

    # %% Leave with a file that the next tool reads
    images.export(folder / "kept.parquet", overwrite=True)
    print(len(images), "images kept")
