"""What the window remembers between sessions: the recent projects."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import platformdirs

__all__ = [
    "RecentProjects", "data_folder", "read_settings", "settings_folder",
    "write_settings",
]  # fmt: skip

logger = logging.getLogger(__name__)
MOST_RECENT = 8


def settings_folder() -> Path:
    """Return where settings live; ``NAPARI_EMBED_SETTINGS`` overrides it."""
    override = os.environ.get("NAPARI_EMBED_SETTINGS")
    return Path(override or platformdirs.user_config_dir("napari-embed"))


def data_folder() -> Path:
    """Return where projects go whose source folder cannot be written."""
    override = os.environ.get("NAPARI_EMBED_DATA")
    return Path(override or platformdirs.user_data_dir("napari-embed"))


def read_settings(file: Path) -> dict[str, Any]:
    """Return what `write_settings` was given, nothing if it is gone or damaged."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def write_settings(file: Path, values: Any) -> None:
    """Keep plain values in a file, whole or not at all; a failure is only logged."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        logger.warning("%s cannot be saved: %s", file.name, error)


class RecentProjects:
    """The last projects opened, newest first, in a small JSON file.

    A damaged or unwritable file costs the list, never the session.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or settings_folder() / "recent.json"

    def paths(self) -> list[Path]:
        """Return the remembered projects that still exist, newest first."""
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        if not isinstance(stored, list):
            return []
        paths = [Path(p) for p in stored if isinstance(p, str)]
        return [p for p in paths if p.is_dir()][:MOST_RECENT]

    def add(self, path: Path) -> None:
        """Put ``path`` first."""
        path = Path(path).resolve()
        kept = [path, *(p for p in self.paths() if p != path)][:MOST_RECENT]
        write_settings(self._file, [str(p) for p in kept])
