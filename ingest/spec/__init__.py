"""The spec of a folder: reading and checking it, and which files make which split."""
