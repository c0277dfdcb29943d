#!/usr/bin/env python3
"""Runs of several processes: measured on this machine, and simulated for clusters.

    python3 benches/ranks.py measure lvm_mlp integer_sequences_d64      # 1 and 2 ranks in turn, and what of a step is exchange
    python3 benches/ranks.py simulate                                   # steps and useful numbers of ranks, 2 to 1,000

`measure` needs `cargo build --release --features mpi` and mpirun, and takes its times from `engine profile`; data that are not there are made up.
`simulate` needs nothing; its step times are those that `engine isa` predicts for an RX 6600, its assumptions stand beside the figures below.
"""

import argparse
import json
import math
import os
import pathlib
import random
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

# (weights, seconds of a step of the whole batch on one card, launches of a step), predicted by `engine isa` for an RX 6600.
RUNS = {
    "integer_sequences_d64": (133_504, 0.298e-3, 36),
    "mechanism_small": (573_059, 1.425e-3, 55),
    "lvm_mlp": (4_720_384, 0.807e-3, 8),
    "lvm_transformer": (13_659_904, 5.630e-3, 69),
    "lvm_lstm": (17_581_824, 9.929e-3, 40),
    "mechanism_phase1": (25_480_195, 115.365e-3, 117),
}
BUS = 15.75e9 * 0.8        # bytes a second from card to host over PCIe 4 x8, four fifths of nominal
LAUNCH = 4e-6              # seconds of a launch, which do not shrink with the batch
HOST = 5e9                 # bytes a second that one core adds up and copies
NETWORKS = {"1 GbE": (0.125e9 * 0.9, 50e-6), "10 GbE": (1.25e9 * 0.9, 25e-6), "100 GbE": (12.5e9 * 0.9, 3e-6)}  # bytes a second, seconds a message
SLICES = 8                 # of a gradient at most, each of 1 MiB at least
BACKWARD = 2 / 3           # of a step, in which slices come out one after another
JITTER = 0.02              # relative deviation of a rank's step; the slowest of all counts
STALL, STALLED = 1e-4, 10  # one step of a rank in so many takes ten times as long: a page fault, a log, another program


def exchange(size, ranks, network, cards, hierarchical):
    """Seconds of a sum of `size` bytes over all ranks, `cards` of them on a machine with one network card.

    Flat, as the engine does it: every rank sends all but its own part, and receives it, twice. Hierarchical: the ranks of a machine add up first, and one
    part of that leaves it."""
    bandwidth, latency = network
    machines = math.ceil(ranks / cards)
    through = 1 if hierarchical else cards
    wire = 2 * size * (machines - 1) / machines * through / bandwidth
    inside = 2 * size * (cards - 1) / cards / HOST
    # An all-to-all sends a message to every other rank, or for many ranks one for each bit of their number (Bruck et al. 1997).
    parties = machines if hierarchical else ranks
    messages = 2 * min(parties - 1, 8 * math.ceil(math.log2(parties))) if parties > 1 else 0
    return inside + wire + messages * latency


def step(weights, alone, launches, ranks, network, draw, cards=1, hierarchical=False):
    """Seconds of one step, and those of them in which the cards wait for the exchange."""
    size = 4 * weights
    fixed = launches * LAUNCH
    compute = fixed + max(alone - fixed, 0.0) / ranks
    # The slowest of all ranks: the largest of so many normal draws, and now and then one that stalls.
    slowest = max(draw.gauss(1.0, JITTER) for _ in range(ranks))
    if draw.random() < 1 - (1 - STALL) ** ranks:
        slowest *= STALLED
    compute *= slowest
    slices = max(1, min(SLICES, size >> 20))
    piece = exchange(size / slices, ranks, network, cards, hierarchical) + 2 * size / slices / BUS
    # Slices come at equal distances during the backward pass; each is exchanged after the one before.
    done = compute * (1 - BACKWARD)
    for number in range(slices):
        ready = compute * (1 - BACKWARD * (1 - (number + 1) / slices))
        done = max(done, ready) + piece
    return done, done - compute


def simulate(steps):
    draw = random.Random(1)
    for name, network in NETWORKS.items():
        print(f"\n{name}, one card a machine: times as fast as one card (share of a step that waits for the exchange)\n")
        print(f"{'run':24}" + "".join(f"{f'{n} ranks':>16}" for n in (2, 4, 8, 16, 32)) + f"{'largest useful':>16}")
        for run, (weights, alone, launches) in RUNS.items():
            cells, useful, before = [], 1, alone
            for ranks in (2, 4, 8, 16, 32):
                times = [step(weights, alone, launches, ranks, network, draw) for _ in range(steps)]
                mean, waits = (statistics.fmean(t[i] for t in times) for i in (0, 1))
                cells.append(f"{alone / mean:.2f} ({100 * waits / mean:.0f} %)")
                # Another doubling is worth it while it brings a quarter more.
                if before / mean > 1.25 and useful == ranks // 2:
                    useful = ranks
                before = mean
            print(f"{run:24}" + "".join(f"{cell:>16}" for cell in cells) + f"{useful:>16}")
    print("\n1,000 cards in 250 machines, each card with the whole batch of one (weak scaling), 100 GbE: what is left of 1,000 times the samples a second\n")
    print(f"{'run':24}{'flat':>8}{'hierarchical':>14}{'without stalls':>16}{'checkpoint (s)':>16}")
    global STALL
    for run, (weights, alone, launches) in RUNS.items():

        def left(hierarchical):
            # The arithmetic of a card does not shrink.
            whole = alone * 1000 - launches * LAUNCH * 999
            steps_of = (step(weights, whole, launches, 1000, NETWORKS["100 GbE"], draw, 4, hierarchical)[0] for _ in range(steps // 4))
            return alone / statistics.fmean(steps_of)

        flat, grouped = left(False), left(True)
        stall, STALL = STALL, 0.0
        calm = left(True)
        STALL = stall
        # Weights and two moments of one rank to one disk of 500 MB/s; all others wait for it.
        print(f"{run:24}{100 * flat:>6.0f} %{100 * grouped:>12.0f} %{100 * calm:>14.0f} %{12 * weights / 5e8:>16.2f}")


def measure(runs, rounds):
    engine = ROOT / "target/release/engine"
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

    def profile(run, ranks):
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), engine, "profile", f"data/runs/{run}.toml"]
        done = subprocess.run([*command, "--rounds", "1", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stdout)

    heads = ("1 rank (ms)", "2 ranks (ms)", "no exchange", "predicted", "exchange", "predicted", "hidden", "KiB a step")
    print(f"{'run':24}" + "".join(f"{head:>14}" for head in heads))
    for run in runs:
        alone, shared = [], []
        for _ in range(rounds):
            alone.append(profile(run, 1)["step_seconds"])
            shared.append(profile(run, 2))
        median = statistics.median
        of = lambda key: median(one["exchange"][key] for one in shared)
        # What the model says of two ranks that share this machine: no network, and the sums of both on the same cores.
        size = sum(part["bytes"] for part in shared[0]["exchange"]["slices"])
        apart, sums = median(one["step_seconds"] for one in shared), exchange(size, 2, (float("inf"), 0.0), 2, False) + 2 * size / HOST
        cells = [1e3 * median(alone), 1e3 * of("step_seconds"), 1e3 * apart, 1e3 * (apart + sums), 1e3 * of("exchange_seconds"), 1e3 * sums]
        hidden = 100 * of("hidden_seconds") / of("exchange_seconds")
        print(f"{run:24}" + "".join(f"{cell:>14.2f}" for cell in cells) + f"{hidden:>12.0f} %{size / 1024:>14.0f}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
kinds = parser.add_subparsers(dest="kind", required=True)
measured = kinds.add_parser("measure")
measured.add_argument("runs", nargs="+", choices=RUNS)
measured.add_argument("--rounds", type=int, default=3)
simulated = kinds.add_parser("simulate")
simulated.add_argument("--steps", type=int, default=400)
arguments = parser.parse_args()
if arguments.kind == "measure":
    measure(arguments.runs, arguments.rounds)
else:
    simulate(arguments.steps)
