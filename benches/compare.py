"""`make bench-compare BASE=rev`: whether a training step of this tree is slower than one of an earlier revision.

    make bench-compare BASE=rev [RUNS="lvm_mlp integer_sequences_d64"] [ROUNDS=5] [LIMIT=1.10]

Steps of the two programs are timed in turn, each with the run file of its own revision. Ends with 1 where the median of the pairs is above the
limit; on a busy machine that happens to equal programs, too. The program of BASE is built once, in a worktree that is taken away again, and kept
under `target/compare/`.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial

from timing import ENGINE, ROOT, Failed, engine_step, in_turn, milliseconds, ratio, table

RUNS = ["integer_sequences", "integer_sequences_d64", "lvm_mlp", "lvm_lstm_small", "lvm_transformer", "mechanism_small"]


def git(*words):
    done = subprocess.run(["git", *words], check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip())
    return done.stdout


def build(revision):
    """The program of a revision."""
    folder = ROOT / "target/compare"
    program, tree = folder / revision[:12], folder / "tree"
    if not program.exists():
        git("worktree", "add", "--force", "--detach", str(tree), revision)
        try:
            subprocess.run(["cargo", "build", "--release", "--bin", "engine", "--target-dir", folder / "build"], cwd=tree, check=True)
            shutil.copy(folder / "build/release/engine", program)
        finally:
            git("worktree", "remove", "--force", str(tree))
    return program


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.10)
    arguments = parser.parse_args()
    revision = git("rev-parse", "--verify", f"{arguments.base}^{{commit}}").strip()
    base, rows, notes, slower = build(revision), [["run", "base ms", "this ms", "this / base"]], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.runs or RUNS:
            print(name, end=" ", flush=True, file=sys.stderr)
            ours, theirs = ROOT / f"data/runs/{name}.toml", pathlib.Path(folder) / f"{name}.toml"
            if not ours.exists():
                notes.append(f"{name}: skipped, this tree has no such run file")
                continue
            try:
                theirs.write_text(git("show", f"{revision}:data/runs/{name}.toml"))
            except Failed:
                notes.append(f"{name}: skipped, {arguments.base} has no such run file")
                continue
            if theirs.read_text() != ours.read_text():
                notes.append(f"{name}: the run files differ, so may the work")
            started = time.perf_counter()
            try:
                engine_step(base, theirs)
            except Failed as error:
                notes.append(f"{name}: skipped, {arguments.base} says: {error}")
                continue
            # What takes little time is disturbed most, and costs little to repeat.
            rounds = arguments.rounds * (3 if time.perf_counter() - started < 5 else 1)
            times = in_turn({"base": partial(engine_step, base, theirs), "this": partial(engine_step, ENGINE, ours)}, rounds)
            middle, shown = ratio(times["this"], times["base"])
            rows.append([name, milliseconds(times["base"]), milliseconds(times["this"]), shown])
            if middle > arguments.limit:
                slower.append(name)
    print(f"\n{table(rows)}", *notes, sep="\n")
    if len(rows) == 1:
        raise Failed("nothing was compared")
    if slower:
        sys.exit(f"slower than {arguments.base} by more than a factor of {arguments.limit:g}: {', '.join(slower)}")


try:
    main()
except (Failed, subprocess.CalledProcessError) as error:
    sys.exit(f"error: {error}")
