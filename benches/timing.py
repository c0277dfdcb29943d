"""What peers.py, scaling.py and compare.py share: steps of the engine, rounds in turn, ratios of pairs, tables."""

import json
import pathlib
import statistics
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
ENGINE = ROOT / "target/release/engine"


class Failed(Exception):
    """What a program said as it failed."""


def sized(path, sets=()):
    """Command-line options with `sets`, which keep a run off data files: all data are made up."""
    given = [*sets, "data.file=made up"] if "file" in tomllib.loads(pathlib.Path(path).read_text())["data"] else sets
    return [word for each in given for word in ("--set", each)]


def profile(engine, path, sets=()):
    """What `engine profile` tells of a run file on made-up data."""
    command = [engine, "profile", path, "--rounds", "1", "--json", *sized(path, sets)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip())
    return json.loads(done.stdout)


def engine_step(engine, path, sets=()):
    """Milliseconds of a step, the median of a fresh process."""
    return 1e3 * profile(engine, path, sets)["step_seconds"]


def in_turn(programs, rounds):
    """The times of each program: A B C, A B C, …, so that what else the machine does is shared."""
    times = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            times[name].append(program())
    return times


def ratio(ours, theirs):
    """The median of the pairs' ratios, and in words with the least and the largest."""
    pairs = [a / b for a, b in zip(ours, theirs)]
    return statistics.median(pairs), f"{statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})"


def milliseconds(times):
    return f"{statistics.median(times):,.2f}"


def table(rows):
    """An aligned table in Markdown; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
