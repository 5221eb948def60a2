"""The command facsnet experiment."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from facsnet.experiment import read_experiment

__all__ = ["add_experiment"]

AddCommand = Callable[[str, str, Callable[[argparse.Namespace], None]], argparse.ArgumentParser]


def add_experiment(add_command: AddCommand) -> None:
    """Adds the command through a function of its name, its help and what runs it."""
    parser = add_command("experiment", "cross-validate as a TOML file says, and write a report", _experiment)
    parser.add_argument("config", type=Path, help="see docs/experiments.md")
    parser.add_argument("--out", type=Path, help="folder to write; runs in it are not done again (None: CONFIG's name)")
    parser.add_argument("--workers", type=_positive, help="runs at a time, each with its part of the threads")
    parser.add_argument("--threads", type=_positive, help="in all (None: every processor)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return value


def _experiment(options: argparse.Namespace) -> None:
    experiment = read_experiment(options.config)
    out = options.out or options.config.with_suffix("")
    found = experiment.run(
        out, workers=options.workers, threads=options.threads, progress=lambda line: print(line, flush=True)
    )
    print(found)
    print(f"report: {out / 'report.html'}")
