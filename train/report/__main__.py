"""`python -m train.report`."""

from ingest.errors import run
from train.report.command import command

if __name__ == "__main__":
    run(command, "python -m train.report")
