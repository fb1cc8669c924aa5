"""The napari side: controller, points layer, image link and dock widgets.

Only this folder imports Qt and napari. Nothing here loads torch, Taichi or FAISS: all
computing happens in the engine process, reached through ``engine.client``.
"""
