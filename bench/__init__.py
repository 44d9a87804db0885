"""How fast, against whom, and what is the limit: `python -m bench.loader --help`."""
