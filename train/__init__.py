"""Recipes in, trained nets out: `python -m train --help`."""
