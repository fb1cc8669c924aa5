"""Compute kernels of the layout engine, written in Taichi.

Files in the order of one iteration: ``morton`` (keys), ``hierarchy`` (build, refit),
``field`` (marked cells, interpolation), ``traversal`` and ``near`` (both hierarchies at
once), ``forces`` (attraction, update, KL); ``repulsion`` and ``minimizer`` join them.
``runtime`` alone imports and starts Taichi. Importing this package loads nothing; its
modules load Taichi.
"""
