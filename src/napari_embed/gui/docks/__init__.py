"""The dock widgets: Project, Compute, Explore. Each is usable alone."""
