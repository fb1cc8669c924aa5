"""Follow the image link of a map, which comes and goes, until a widget is gone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_embed.gui.docks.gone import when_gone

__all__ = ["follow_link"]

Connections = list[tuple[Any, Callable[..., None]]]


def follow_link(
    widget: QWidget, map_view: Any, methods: Mapping[str, str], relinked: str
) -> None:
    """Call methods of a widget on the news of the present link.

    Parameters
    ----------
    widget
        Held weakly.
    map_view
        Has ``link`` (or None) and the signal ``link_changed``.
    methods
        Name of the link's signal to name of the widget's method.
    relinked
        Name of the method to call now and whenever the link is another.
    """
    me: Callable[[], Any] = weakref.ref(widget)
    connections: Connections = []

    def relink() -> None:
        _disconnect(connections)
        link = map_view.link
        for signal_name, method in methods.items() if link is not None else ():
            signal, slot = getattr(link, signal_name), partial(_pass_on, me, method)
            signal.connect(slot)
            connections.append((signal, slot))
        _pass_on(me, relinked)

    map_view.link_changed.connect(relink)
    when_gone(widget, lambda: map_view.link_changed.disconnect(relink))
    when_gone(widget, lambda: _disconnect(connections))
    relink()


def _disconnect(connections: Connections) -> None:
    for signal, slot in connections:
        signal.disconnect(slot)
    connections.clear()


def _pass_on(widget: Callable[[], Any], name: str, *arguments: Any) -> None:
    """Call a method of a widget that may be gone."""
    alive = widget()
    if alive is not None:
        getattr(alive, name)(*arguments)
