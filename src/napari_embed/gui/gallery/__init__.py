"""Pictures in panels: the gallery's grid, one image at full size, the hover preview."""

from __future__ import annotations
