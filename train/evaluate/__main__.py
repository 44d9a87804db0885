"""`python -m train.evaluate`."""

from train.entry import run
from train.evaluate.command import command

if __name__ == "__main__":
    run(command, "python -m train.evaluate")
