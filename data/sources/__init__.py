"""Where do raw documents come from? One file a kind; procedural kinds (facts, repeats) are drawn at planning
instead."""

from .files import Raw, list_files, read_files

__all__ = ["Raw", "list_files", "read_files"]
