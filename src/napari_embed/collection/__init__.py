"""The typed Python interface: open a project, choose items, decide, export.

::

    from napari_embed.collection import open_project

    with open_project("photos.embed") as photos:
        photos.where("width < 64").tag("small").exclude()
        photos.similar(ids=[17], k=50).tag("like 17").export("like-17.csv")
"""

from napari_embed.collection.collection import Collection, open_project
from napari_embed.collection.selection import Selection

__all__ = ["Collection", "Selection", "open_project"]
