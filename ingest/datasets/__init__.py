"""One file a dataset: its facts, and how its files pair up."""
