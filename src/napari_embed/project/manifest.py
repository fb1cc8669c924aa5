"""``project.json``: what kind of folder this is, readable by anyone.

Written once, and again when items are added or the source moves.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_embed.errors import InputError, StoreError, StoreVersionError
from napari_embed.params import fingerprint
from napari_embed.project.atomic import store_errors, write_atomic
from napari_embed.sources.spec import SourceSpec

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "Manifest", "read_manifest"]

MANIFEST_NAME = "project.json"
FORMAT_NAME = "napari-embed project"
FORMAT_VERSION = 1
_MAX_BYTES = 1 << 20
_MAX_ITEMS = 2**31 - 1
_MAX_THUMBNAIL_PX = 512


def package_version() -> str:
    """Return the installed version, or "unknown" in a bare checkout."""
    try:
        return version("napari-embed")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The unchanging facts of one project.

    Attributes
    ----------
    name
        Shown to people.
    source
        Where the items came from.
    n_items
        Rows of ``items.parquet`` and of every array.
    chunk_rows
        Items per chunk: the unit of work, of the ledger and of a resume.
    thumbnail_px
        Side of the square thumbnails.
    has_images
        False for a source of bare vectors.
    items_checksum
        Hash of ``items.parquet``.
    root_fingerprint
        The root of every fingerprint, kept when items are added or the source moves;
        "" while it follows from ``items_checksum`` and ``source``, see `root`.
    scans
        How often a look for changes has found some.
    created, package_version
        When (UTC) and by which version.
    """

    name: str
    source: SourceSpec
    n_items: int
    chunk_rows: int
    thumbnail_px: int
    has_images: bool
    items_checksum: str
    root_fingerprint: str = ""
    scans: int = 0
    created: str = field(
        default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    )
    package_version: str = field(default_factory=package_version)

    @property
    def root(self) -> str:
        """The root of every fingerprint of the project."""
        if self.root_fingerprint:
            return self.root_fingerprint
        return fingerprint(self.items_checksum, self.source.to_dict())

    def write(self, root: Path) -> None:
        """Write ``project.json`` into the project's folder."""
        values = {"format": FORMAT_NAME, "version": FORMAT_VERSION, **asdict(self)}
        values["source"] = self.source.to_dict()
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        # A path that is no Unicode keeps its odd bytes as JSON escapes.
        write_atomic(root / MANIFEST_NAME, text.encode("utf-8", "backslashreplace"))


def read_manifest(root: Path) -> Manifest:
    """Read and check ``project.json`` of the project in folder ``root``.

    Raises
    ------
    StoreError
        If the folder is no project or the file is damaged.
    StoreVersionError
        If a newer version of this package wrote it.
    """
    path = root / MANIFEST_NAME
    with store_errors("read", path):
        if not root.exists():
            raise StoreError(f"There is no project {root}. Check the path.")
        if not path.is_file():
            raise StoreError(
                f"{root} is not a napari-embed project: it has no {MANIFEST_NAME}. "
                "Choose a folder that `napari-embed new` made (its name ends in "
                ".embed)."
            )
        if path.stat().st_size > _MAX_BYTES:
            raise StoreError(f"{path} is larger than 1 MiB and was not written by us.")
        text = path.read_bytes()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {error}. Restore a backup.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
        raise StoreError(f"{path} does not describe a napari-embed project.")
    _check_version(path, values.get("version"))
    return _build(path, values)


def _check_version(path: Path, found: object) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise StoreError(f"{path} names no format version, found {found!r:.50}.")
    if found > FORMAT_VERSION:
        raise StoreVersionError(
            f"{path.parent} was written in format {found}, this version of "
            f"napari-embed knows formats up to {FORMAT_VERSION}. Update napari-embed."
        )


def _build(path: Path, values: dict[str, Any]) -> Manifest:
    def take(key: str, kind: type, low: int = 0, high: int = _MAX_ITEMS) -> Any:
        value = values.get(key)
        good = isinstance(value, kind) and (kind is bool or value is not True)
        if good and kind is int:
            good = low <= int(value) <= high  # type: ignore[arg-type]
        if not good:
            raise StoreError(f"{path} is damaged: {key} is {value!r:.80}.")
        return value

    # Projects of earlier versions do not have these.
    scanned = "root_fingerprint" in values
    try:
        source = SourceSpec.from_dict(take("source", dict))
    except InputError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    return Manifest(
        name=take("name", str),
        source=source,
        n_items=take("n_items", int, 1),
        chunk_rows=take("chunk_rows", int, 1, 1 << 20),
        thumbnail_px=take("thumbnail_px", int, 1, _MAX_THUMBNAIL_PX),
        has_images=take("has_images", bool),
        items_checksum=take("items_checksum", str),
        root_fingerprint=take("root_fingerprint", str) if scanned else "",
        scans=take("scans", int) if scanned else 0,
        created=take("created", str),
        package_version=take("package_version", str),
    )
