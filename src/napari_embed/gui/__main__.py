"""``python -m napari_embed.gui PROJECT``."""

from __future__ import annotations

import sys

from napari_embed.gui.app import main

if __name__ == "__main__":
    sys.exit(main())
