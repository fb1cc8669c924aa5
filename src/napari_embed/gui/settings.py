"""What the window remembers between sessions: the recent projects."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import platformdirs

__all__ = ["RecentProjects", "data_folder"]

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
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(
                json.dumps([str(p) for p in kept], indent=1), encoding="utf-8"
            )
            temporary.replace(self._file)
        except OSError as error:
            logger.warning("Recent projects cannot be saved: %s", error)
