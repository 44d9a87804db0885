"""A trained net as one file that needs no segrail: `python -m train.export --help`."""
