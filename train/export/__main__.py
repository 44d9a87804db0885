"""`python -m train.export`."""

from ingest.errors import run
from train.export.command import command

if __name__ == "__main__":
    run(command, "python -m train.export")
