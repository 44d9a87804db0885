"""`python -m train.view`."""

from train.entry import run
from train.view.command import command

if __name__ == "__main__":
    run(command, "python -m train.view")
