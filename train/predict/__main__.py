"""`python -m train.predict`."""

from train.entry import run
from train.predict.command import command

if __name__ == "__main__":
    run(command, "python -m train.predict")
