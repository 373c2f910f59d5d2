"""Sequence models as torch modules, one architecture a file."""
