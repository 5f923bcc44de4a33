"""`python -m benchmarks [NAME ...]`: measures, and writes benchmarks/results/NAME.md and NAME.json."""

import argparse
from importlib import import_module

import torch

NAMES = ("speed", "real", "attribution", "circuits", "memory", "sweep", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all if none is given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    torch.set_num_threads(options.threads)
    for name in options.names or NAMES:
        import_module(f"benchmarks.{name}").run()


if __name__ == "__main__":
    main()
