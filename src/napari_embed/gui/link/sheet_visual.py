"""How the contact sheet is drawn: a flat picture with panel and frames, pinned.

All use of napari's private drawing classes by the image link is in this module:

- ``napari._vispy.utils.visual.layer_to_visual``: registry of visuals by layer class;
- ``napari._vispy.layers.image.VispyImageLayer`` and ``ImageLayerNode`` with the hooks
  ``_on_matrix_change``, ``_on_display_change``, ``get_node`` and ``close``.

If any of it is missing, `register` says so and napari's own image visual takes over:
the page is then drawn without frames, follows the camera a frame late, and colour
pictures in 3D need napari 0.9.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_embed.gui.link.sheet_layer import ContactSheet, SheetDecoration

__all__ = ["frame_mesh", "pin_matrix", "register"]

log = logging.getLogger(__name__)


def _quads(rectangles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (6 k, 3) corners of two triangles per (top, left, bottom, right)."""
    top, left, bottom, right = rectangles.T
    x = np.stack([left, right, right, left, right, left], axis=1)
    y = np.stack([top, top, bottom, top, bottom, bottom], axis=1)
    z = np.zeros_like(x)
    return np.stack([x, y, z], axis=2).reshape(-1, 3).astype(np.float32)


def frame_mesh(
    decoration: SheetDecoration,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vertices (6 k, 3) and colours (6 k, 4) of everything that is no picture.

    The panel fills gaps and empty cells, a frame goes around every picture.
    """
    g = decoration.geometry
    height, width = g.shape
    down, right = g.pitch
    rectangles: list[tuple[float, float, float, float]] = []
    colors: list[tuple[float, float, float]] = []

    def add(box: tuple[float, float, float, float], color: Any) -> None:
        rectangles.append(box)
        colors.append((float(color[0]), float(color[1]), float(color[2])))

    for row in range(g.rows + 1):
        add((row * down, 0, row * down + g.gap, width), decoration.panel)
    for column in range(g.columns + 1):
        add((0, column * right, height, column * right + g.gap), decoration.panel)
    for index in range(g.count, g.rows * g.columns):
        top, left = (value - g.frame for value in g.origin(index))
        add((top, left, top + down, left + right), decoration.panel)
    for index in range(g.count):
        top, left = g.origin(index)
        bottom, end = top + g.cell_height, left + g.cell_width
        hovered = index == decoration.hovered
        color = decoration.accent if hovered else decoration.frames[index]
        wide = g.frame + (g.gap // 2 if hovered else 0)
        add((top - wide, left - wide, top, end + wide), color)
        add((bottom, left - wide, bottom + wide, end + wide), color)
        add((top, left - wide, bottom, left), color)
        add((top, end, bottom, end + wide), color)
    rgba = np.ones((len(colors), 4), dtype=np.float32)
    rgba[:, :3] = colors
    return _quads(np.asarray(rectangles, dtype=np.float64)), rgba.repeat(6, axis=0)


def pin_matrix(
    to_canvas: NDArray[np.float64], place: tuple[float, float, float], depth: float
) -> NDArray[np.float64]:
    """Return the (4, 4) row-vector matrix that puts texels at a place of the canvas.

    Parameters
    ----------
    to_canvas
        (4, 4) matrix from the scene to homogeneous canvas coordinates, row vectors.
    place
        Left, top and pixels per texel.
    depth
        Canvas depth the page is given.
    """
    left, top, scale = place
    on_canvas = np.diag([scale, scale, 1.0, 1.0])
    on_canvas[3] = (left, top, depth, 1.0)
    on_canvas[2, 2] = 0.0
    matrix: NDArray[np.float64] = on_canvas @ np.linalg.inv(to_canvas)
    # The third row is free, because the page has no depth; vispy inverts the matrix,
    # so it must not be zero. The direction of view through the page serves.
    matrix[2] = np.linalg.inv(to_canvas)[2]
    return matrix


def _as_matrix(transform: Any) -> NDArray[np.float64]:
    """Return (4, 4) of a vispy transform that is linear in homogeneous coordinates."""
    probe = np.zeros((4, 4))
    probe[:3, :3] = np.eye(3)
    probe[:, 3] = 1.0
    mapped = np.asarray(transform.map(probe), dtype=np.float64)
    mapped[:3] -= mapped[3]
    return mapped


def _define() -> type:
    from napari._vispy.layers.image import ImageLayerNode, VispyImageLayer
    from napari._vispy.visuals.image import Image as ImageNode
    from vispy.scene.visuals import Mesh
    from vispy.visuals.transforms import MatrixTransform

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

        def get_node(self, ndisplay: int, dtype: Any = None, shape: Any = None) -> Any:
            if ndisplay == 3:
                return self._flat_node
            return super().get_node(ndisplay, dtype, shape)

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
                    # Before the scene draws itself (vispy calls the newest first).
                    canvas.events.draw.connect(self._on_draw)

        def _unlisten(self) -> None:
            if self._canvas is not None:
                self._canvas.events.draw.disconnect(self._on_draw)
                self._canvas = None

        def _on_draw(self, event: Any = None) -> None:
            self._pin()

        def close(self) -> None:
            self._unlisten()
            self._panel.parent = None
            super().close()

    return VispyContactSheet


def register() -> bool:
    """Make napari draw a `ContactSheet` with our visual; return whether it will."""
    try:
        from napari._vispy.utils.visual import layer_to_visual

        if ContactSheet not in layer_to_visual:
            layer_to_visual[ContactSheet] = _define()
    except (ImportError, AttributeError, TypeError) as error:
        log.warning(
            "napari's drawing classes changed (%s); selected images are shown without "
            "frames",
            error,
        )
        return False
    return True
