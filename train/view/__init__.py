"""A local page to look through a split with a net's predictions: `python -m train.view --help`."""
