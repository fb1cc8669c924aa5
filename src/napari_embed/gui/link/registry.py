"""Makes napari draw a `ContactSheet` with our visual.

If napari's private drawing classes changed, its own image visual takes over: the page
is then drawn without frames, follows the camera a frame late, and colour pictures in
3D need napari 0.9.
"""

from __future__ import annotations

import logging

from napari_embed.gui.link.sheet_layer import ContactSheet

__all__ = ["register"]

log = logging.getLogger(__name__)


def register() -> bool:
    """Register our visual for `ContactSheet`; return whether napari will use it."""
    try:
        from napari._vispy.utils.visual import layer_to_visual

        from napari_embed.gui.link.sheet_visual import VispyContactSheet

        layer_to_visual.setdefault(ContactSheet, VispyContactSheet)
    except (ImportError, AttributeError, TypeError) as error:
        log.warning(
            "napari's drawing classes changed (%s); selected images are shown without "
            "frames",
            error,
        )
        return False
    return True
