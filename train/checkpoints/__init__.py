"""Checkpoint files: writing, reading, which to keep, and what a resumed run takes from one."""
