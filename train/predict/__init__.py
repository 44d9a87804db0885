"""Masks for plain image files: `python -m train.predict --help`."""
