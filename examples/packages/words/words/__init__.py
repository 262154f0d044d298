"""A Python project as a package."""
