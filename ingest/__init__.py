"""Raw datasets in, WebDataset tar shards out: `python -m ingest --help`."""
