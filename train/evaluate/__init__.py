"""Scores of a checkpoint on a split: `python -m train.evaluate --help`."""
