"""`python -m train.convert`."""

from ingest.errors import run
from train.convert.command import convert

if __name__ == "__main__":
    run(convert, "python -m train.convert")
