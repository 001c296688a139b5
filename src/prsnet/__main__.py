"""``python -m prsnet``: the command line, also for ``torchrun -m prsnet``."""

from prsnet.cli.main import entry

if __name__ == "__main__":
    entry()
