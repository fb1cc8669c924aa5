"""What people take away from a project: tables of items and positions."""
