"""Recipes from configs of other projects: `python -m train.convert config.json`."""
