"""`make bench-peers`: training steps of the engine, of PyTorch on the same cores and of burn on the same adapter, in turn.

    make bench-peers [RUNS="lvm_mlp lvm_transformer"] [ROUNDS=5] [PEERS="pytorch fused compiled burn"]

All of them train the same model on the same batch with the same loss and kind of optimiser, in f32, as the run file says, on made-up data. A step
is forward, backward and update. PyTorch has as many threads as there are cores, and is three peers: `pytorch` is eager with the optimiser that it
takes by default, `fused` has its fused optimiser, and `compiled` that and a compiled model. burn is built on the first call, which takes up
to half an hour on two cores. The table goes to `benches/results/`, and where all runs are timed a picture of how the engine's step grows.
"""

import argparse
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from functools import partial

import scaling
from timing import ENGINE, ROOT, Failed, engine_step, in_turn, milliseconds, profile, ratio, table

try:
    import runs_pytorch
    import torch
except ImportError as error:
    torch, missing = None, error

# What the peers that are PyTorch give its `stepper`.
FORMS = {"pytorch": {}, "fused": {"fused": True}, "compiled": {"fused": True, "compiled": True}}
TITLES = {"pytorch": "PyTorch", "fused": "fused", "compiled": "compiled", "burn": "burn"}
BURN, TARGET = ROOT / "benches/burn", ROOT / "target/burn"
RUNS = ["integer_sequences", "integer_sequences_d64", *sorted(p.stem for p in ROOT.glob("data/runs/lvm_*.toml")), "mechanism_small"]


def pytorch(run, **form):
    """A function that times a step of the run, warm."""
    _, step = runs_pytorch.stepper(run, **form)
    done = 0

    def times(enough, seconds):
        nonlocal done
        started, each = time.perf_counter(), []
        while len(each) < 3 or (len(each) < enough and time.perf_counter() - started < seconds):
            start = time.perf_counter()
            step(done)
            each.append(1e3 * (time.perf_counter() - start))
            done += 1
        return statistics.median(each)

    times(10, 3)
    return lambda: times(200, 3)


class Burn:
    """The program in benches/burn on a run, kept warm between rounds."""

    def __init__(self, path, log):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        self.process = subprocess.Popen([TARGET / "release/peers-burn", path], text=True, **pipes)
        self.adapter = self.process.stdout.readline().strip()

    def __call__(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise Failed("burn ended between two rounds")
        return float(answer)


def cpu():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()) if os.path.exists("/proc/cpuinfo") else []
    return f"{names[0] if names else 'processor unknown'}, {os.cpu_count()} cores"


def measure(name, peers, rounds, device, log):
    """A row of the table, and remarks; `log` takes what burn says as it fails."""
    path, notes = ROOT / f"data/runs/{name}.toml", []
    programs, burn = {"engine": partial(engine_step, ENGINE, path)}, None
    for form in [peer for peer in peers if peer in FORMS]:
        try:
            programs[form] = pytorch(tomllib.loads(path.read_text()), **FORMS[form])
        except ImportError as error:
            notes.append(f"{name}: not in PyTorch, {error}; pip install {error.name}")
            break
    if "burn" in peers:
        burn = Burn(path, log)
        if burn.adapter and burn.adapter in device:
            programs["burn"] = burn
        elif burn.adapter != "not written":
            log.seek(0)
            why = f"is on another adapter, {burn.adapter}" if burn.adapter else f"ended: {' '.join(log.read().split())[:300]}"
            notes.append(f"{name}: burn {why}")
    times = in_turn(programs, rounds)
    if burn:
        burn.process.communicate()
    shown = [milliseconds(times[who]) if who in times else "–" for who in ("engine", *peers)]
    return [name, *shown, *(ratio(times["engine"], times[who])[1] if who in times else "–" for who in peers)], notes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", default=RUNS, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(TITLES), choices=list(TITLES))
    arguments = parser.parse_args()
    runs, peers = arguments.runs, list(arguments.peers)
    if unknown := [name for name in runs if not (ROOT / f"data/runs/{name}.toml").exists()]:
        parser.error(f"not in data/runs: {', '.join(unknown)}")
    versions = {}
    if FORMS.keys() & set(peers) and not torch:
        print(f"PyTorch is left out ({missing}): pip install torch", file=sys.stderr)
        peers = [peer for peer in peers if peer not in FORMS]
    elif FORMS.keys() & set(peers):
        torch.set_num_threads(os.cpu_count())
        versions["PyTorch"] = f"{torch.__version__} on the processor, f32, {torch.get_num_threads()} threads; fused: its fused optimiser; compiled: that and a compiled model"
    if "burn" in peers:
        command = ["cargo", "build", "--release", "--locked", "--manifest-path", BURN / "Cargo.toml", "--target-dir", TARGET]
        if subprocess.run(command, check=False).returncode:
            print("burn is left out: it does not build, see above", file=sys.stderr)
            peers.remove("burn")
        else:
            lock = tomllib.loads((BURN / "Cargo.lock").read_text())["package"]
            number = next(package["version"] for package in lock if package["name"] == "burn")
            versions["burn"] = f"{number} through its wgpu backend, with fusion and autotuning"
    rows = [["run", "engine ms", *(f"{TITLES[p]} ms" for p in peers), *(f"engine / {TITLES[p]}" for p in peers)]]
    load, notes = os.getloadavg()[0], []
    device = profile(ENGINE, ROOT / f"data/runs/{runs[0]}.toml")["device"]
    for name in runs:
        print(f"timing {name}", flush=True, file=sys.stderr)
        try:
            with tempfile.TemporaryFile("w+") as log:
                row, said = measure(name, peers, arguments.rounds, device, log)
        except Failed as error:
            row, said = [name] + ["–"] * (len(rows[0]) - 1), [f"{name}: {error}"]
        rows.append(row)
        notes += said
        print(table([rows[0], row]), flush=True, file=sys.stderr)
    date, folder = time.strftime("%Y-%m-%d"), ROOT / "benches/results"
    clips = " burn clips each tensor by its own norm, the others by the norm of all." if "burn" in peers else ""
    grown = ""
    if runs == RUNS:
        print("timing how the step grows", flush=True, file=sys.stderr)
        grown = f"""
## How a step grows

`{scaling.RUN}` with {shlex.join(scaling.BASE)}; ms a step, by the factor of the size. Length starts from one sequence of 64 positions. PyTorch has its fused optimiser. The picture is `{date}-scaling.svg`.

{scaling.draw(folder / f"{date}-scaling.svg", min(arguments.rounds, 3), partial(pytorch, fused=True) if torch else None)}
"""
    command = ["git", "describe", "--always", "--dirty"]
    revision = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    about = [f"Engine {revision}: {device}", f"Processor: {cpu()}", *(f"{who} {version}" for who, version in versions.items())]
    text = f"""# A training step beside other programs, {date}

`make bench-peers RUNS="{" ".join(runs)}" ROUNDS={arguments.rounds}`. {arguments.rounds} rounds in turn after a warm-up: medians of the rounds, and the
median ratio of the pairs of a round, in brackets the least and the largest. Below 1 the engine is faster.

{chr(10).join(f"- {line}" for line in about)}
- Load of the machine before and after, processes that run or wait to run, over a minute: {load:.1f} and {os.getloadavg()[0]:.1f}

{table(rows)}

–: not timed. Where a step takes less than 0.3 s, the engine{" and burn wait" if "burn" in peers else " waits"} for the device once in eight.{clips}
{"".join(f"{chr(10)}- {note}" for note in notes)}{grown}"""
    text = f"{text.rstrip()}\n"
    (folder / f"{date}-peers.md").write_text(text)
    print(text)


main()
