"""The engine: joins sources, encoders, t-SNE and the project, in a process of its own.

``pipeline`` holds the stages, ``worker`` is the child process that runs them, and
``client`` starts, watches and restarts that child. The client side (``client``,
``progress``, ``positions``, ``environment``) loads neither torch, Taichi nor FAISS.
"""
