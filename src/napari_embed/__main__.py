"""``python -m napari_embed``: the command line."""

from __future__ import annotations

import sys

from napari_embed.cli import main

if __name__ == "__main__":
    sys.exit(main())
