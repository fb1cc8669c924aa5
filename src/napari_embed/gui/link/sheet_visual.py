"""How the contact sheet is drawn: a flat picture with panel and frames, pinned.

All use of napari's private drawing classes by the image link is here and in `registry`:
``napari._vispy.layers.image.VispyImageLayer`` and ``ImageLayerNode`` with the hooks
``_on_matrix_change``, ``_on_display_change``, ``get_node`` and ``close``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari._vispy.layers.image import ImageLayerNode, VispyImageLayer
from napari._vispy.visuals.image import Image as ImageNode
from numpy.typing import NDArray
from vispy import gloo
from vispy.scene.visuals import Mesh
from vispy.visuals.transforms import MatrixTransform

from napari_embed.gui.link.frames import frame_mesh, pin_matrix
from napari_embed.gui.link.sheet_layer import ContactSheet

__all__ = ["VispyContactSheet"]


def _as_matrix(transform: Any) -> NDArray[np.float64]:
    """Return (4, 4) of a vispy transform that is linear in homogeneous coordinates."""
    probe = np.zeros((4, 4))
    probe[:3, :3] = np.eye(3)
    probe[:, 3] = 1.0
    mapped = np.asarray(transform.map(probe), dtype=np.float64)
    mapped[:3] -= mapped[3]
    return mapped


class FlatImageNode(ImageNode):
    """A picture in a 3D scene: (1, height, width[, 3]) drawn as one rectangle."""

    def set_data(self, image: Any) -> None:
        image = np.asarray(image)
        super().set_data(image[0] if image.shape[0] == 1 else image)


class SheetNodes(ImageLayerNode):
    """napari's nodes, but flat in 3D where napari would cast rays."""

    def __init__(self, custom_node: Any = None, texture_format: Any = None):
        super().__init__(custom_node, texture_format)
        # Placeholder, not None: a node without picture has no size to draw.
        self._flat_node = FlatImageNode(
            np.zeros((1, 1), dtype=np.float32),
            method="subdivide",
            texture_format=self._image_node.texture_format,
        )

    def get_node(self, ndisplay: int, *about: Any) -> Any:
        # ``about`` is the type, and in newer napari the shape as well.
        if ndisplay == 3:
            return self._flat_node
        return super().get_node(ndisplay, *about)


class VispyContactSheet(VispyImageLayer):
    """Draws a `ContactSheet`, at its place of the screen in every frame."""

    def __init__(self, layer: ContactSheet, **kwargs: Any):
        self._panel: Any = None
        self._canvas: Any = None
        super().__init__(layer, layer_node_class=SheetNodes, **kwargs)
        self._panel = Mesh()
        self._panel.transform = MatrixTransform()
        self._panel.interactive = False
        self._panel.set_gl_state("translucent", depth_test=False, cull_face=False)
        self._panel.parent = self.node
        layer.events.decoration.connect(self._on_decoration)
        layer.events.place.connect(self._on_place)
        self._on_decoration()
        self._on_matrix_change()

    def _on_decoration(self, event: Any = None) -> None:
        decoration = self.layer.decoration
        self._panel.visible = decoration is not None
        if decoration is not None:
            vertices, colors = frame_mesh(decoration)
            faces = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
            self._panel.set_data(vertices, faces, vertex_colors=colors)
        self.node.update()

    def _on_place(self, event: Any = None) -> None:
        self._pin()

    def _on_display_change(self, data: Any = None) -> None:
        super()._on_display_change(data)
        if self._panel is not None:
            self._panel.parent = self.node

    def _on_matrix_change(self) -> None:
        super()._on_matrix_change()
        if self.layer._slice_input.ndisplay == 3:
            # A flat picture starts at the corner of its first texel, a volume in
            # the middle of it.
            transform = self._master_transform
            half = np.eye(4)
            half[3, :2] = -0.5
            transform.matrix = half @ transform.matrix
        self._pin()

    def _pin(self) -> None:
        """Undo the camera, so that the page stands still on the screen."""
        if self._panel is None:
            return
        self._listen()
        self._panel.transform.matrix = np.eye(4)
        place, parent = self.layer.place, self.node.parent
        if place is None or parent is None or self._canvas is None:
            return
        try:
            to_canvas = _as_matrix(parent.node_transform(self._canvas.scene))
            center = np.append(parent.parent.camera.center, (0.0, 1.0))
            middle = np.append(center[:3], 1.0) @ to_canvas
            matrix = pin_matrix(
                to_canvas,
                (place.left, place.top, place.scale),
                middle[2] / middle[3],
            )
        except (AttributeError, np.linalg.LinAlgError):
            return
        matrix /= matrix[3, 3]
        old = self._master_transform.matrix
        if not np.allclose(old, matrix, rtol=1e-9, atol=1e-12):
            self._master_transform.matrix = matrix

    def _listen(self) -> None:
        canvas = self.node.canvas
        if canvas is not self._canvas:
            self._unlisten()
            self._canvas = canvas
            if canvas is not None:
                # Before the scene draws itself (vispy calls the newest first), and
                # after napari took note of the new size.
                canvas.events.draw.connect(self._on_draw)
                canvas.events.resize.connect(self._on_resize, position="last")

    def _unlisten(self) -> None:
        if self._canvas is not None:
            self._canvas.events.draw.disconnect(self._on_draw)
            self._canvas.events.resize.disconnect(self._on_resize)
            self._canvas = None

    def _on_draw(self, event: Any = None) -> None:
        self._pin()

    def _on_resize(self, event: Any = None) -> None:
        self.layer.events.resized()

    def close(self) -> None:
        """Let the canvas go."""
        canvas = self._canvas
        self._unlisten()
        self._panel.parent = None
        super().close()
        if canvas is not None:
            # vispy leaves attribute arrays enabled; some drivers crash in the next
            # draw when the buffers behind them are gone.
            canvas.set_current()
            for index in range(16):
                gloo.gl.glDisableVertexAttribArray(index)
