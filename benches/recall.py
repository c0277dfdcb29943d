"""Associative recall (`data.kind = "recall"`) with attention, an LSTM and Mamba-2 side by side: accuracy at the lengths that are trained, and at all
lengths the predicted time of a training step on an RX 6600 (`engine isa`) and its memory (`engine estimate`), as a table and as a picture.

    cargo build --release --features isa
    python3 benches/recall.py [--train 64,512] [--steps N] [--out benches/results/NAME.svg] > benches/results/NAME.md
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096, 8192]
BLOCK = {
    "attention": '{ kind = "transformer_block", heads = 2, feed_forward = 128, activation = "gelu", causal = true, norm_first = true },',
    "lstm": '{ kind = "lstm", hidden = 64 },',
    "mamba2": '{ kind = "residual", layers = [{ kind = "rms_norm" }, { kind = "mamba2", state = 16, head = 32 }] },',
}
COLOURS = {"attention": "#b4442f", "lstm": "#6b6b6b", "mamba2": "#1f6fb4"}
RUN = """
[model]
kind = "stack"
layers = [{{ kind = "embedding", features = 64, positions = {positions} }}, {block} {block} {{ kind = "last" }}, {{ kind = "rms_norm" }}, {{ kind = "linear" }}]
[data]
kind = "recall"
length = {length}
keys = {keys}
[loss]
kind = "cross_entropy"
weight = "none"
[optimizer]
kind = "adamw"
learning_rate = 3e-3
decay = "matrices"
[schedule]
kind = "warmup_cosine"
warmup_steps = 100
[train]
batch = {batch}
steps_per_epoch = 100
epochs = {epochs}
[validation]
select = "accuracy"
sequences = 320
"""


def engine(*args):
    done = subprocess.run([arguments.engine, *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"engine {args}: {done.stderr}")
    return done.stdout


def prepared(folder, model, length, batch, epochs):
    """A run file for this length. Attention alone needs to be told the positions."""
    run = folder / f"{model}-{length}.toml"
    positions = "true" if model == "attention" else "false"
    run.write_text(RUN.format(block=BLOCK[model], positions=positions, length=length, keys=arguments.keys, batch=batch, epochs=epochs))
    return run


def predicted(folder, model, length):
    """Seconds of a step with eight sequences, without the embedding, whose gradient walks its table for each token; and bytes."""
    run = prepared(folder, model, length, 8, 1)
    launches = json.loads(engine("isa", run, "--json", "--all"))["launches"]
    seconds = sum(launch["seconds"] * launch["times"] for launch in launches if launch["label"].split(" + ")[0] != "0")
    return seconds, json.loads(engine("estimate", run, "--json"))["total_bytes"]


def accuracy(folder, model, length):
    run = prepared(folder, model, length, 32, arguments.steps // 100)
    out = folder / f"{model}-{length}-run"
    engine("train", run, "--out", out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return max(row["accuracy"] for row in rows if row["split"] == "validation")


def slope(times):
    """Of log time against log length by least squares, from 512 positions on."""
    points = [(math.log(n), math.log(t)) for n, t in times.items() if n >= 512]
    x, y = (sum(v) / len(points) for v in zip(*points))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def picture(results):
    """Two panels on logarithmic axes, time and memory against length."""
    width, height, left, top, size = 980, 400, 70, 40, (340, 280)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">', '<rect width="100%" height="100%" fill="white"/>']
    for panel, (title, unit, which) in enumerate([("predicted step on an RX 6600, 8 sequences", "ms", 0), ("memory", "MiB", 1)]):
        x0 = left + panel * (size[0] + 110)
        values = [v for model in results.values() for v in (p[which] for p in model.values())]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        x = lambda n: x0 + size[0] * math.log(n / LENGTHS[0]) / math.log(LENGTHS[-1] / LENGTHS[0])
        y = lambda v: top + size[1] * (high - math.log10(v)) / (high - low)
        parts.append(f'<text x="{x0}" y="{top - 16}">{title}</text>')
        for power in range(low, high + 1):
            label = f"{10.0 ** power:g}"
            parts.append(f'<line x1="{x0}" x2="{x0 + size[0]}" y1="{y(10.0 ** power)}" y2="{y(10.0 ** power)}" stroke="#dddddd"/>')
            parts.append(f'<text x="{x0 - 8}" y="{y(10.0 ** power) + 4}" text-anchor="end">{label}{" " + unit if power == high else ""}</text>')
        for n in LENGTHS[::2] + LENGTHS[-1:]:
            parts.append(f'<text x="{x(n)}" y="{top + size[1] + 20}" text-anchor="middle">{n}</text>')
        parts.append(f'<text x="{x0 + size[0] / 2}" y="{top + size[1] + 42}" text-anchor="middle">positions</text>')
        for model, points in results.items():
            line = " ".join(f"{x(n):.1f},{y(p[which]):.1f}" for n, p in points.items())
            parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[model]}" stroke-width="2"/>')
            last = max(points)
            parts.append(f'<text x="{x(last) + 6}" y="{y(points[last][which]) + 4}" fill="{COLOURS[model]}">{model}</text>')
    return "\n".join([*parts, "</svg>"])


parser = argparse.ArgumentParser()
parser.add_argument("--engine", default=ROOT / "target/release/engine")
parser.add_argument("--train", default="", help="lengths to train at, as in 64,512")
parser.add_argument("--keys", type=int, default=8)
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--models", default=",".join(BLOCK), help="those that are trained")
parser.add_argument("--out", type=pathlib.Path)
arguments = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    # A step of the LSTM is three launches a position: its plan is not laid out for thousands of them.
    results = {
        model: {n: (s * 1e3, b / 2**20) for n in LENGTHS if model != "lstm" or n <= 1024 for s, b in [predicted(folder, model, n)]} for model in BLOCK
    }
    print("| positions | " + " | ".join(f"{model}: step, ms | memory, MiB" for model in BLOCK) + " |")
    print("|---:|" + "---:|---:|" * len(BLOCK))
    for n in LENGTHS:
        cells = (f"{p[n][0]:.2f} | {p[n][1]:.0f}" if n in p else "– | –" for p in results.values())
        print(f"| {n} | " + " | ".join(cells) + " |")
    print("\nSlope of log time over log length from 512 positions on: " + ", ".join(f"{m} {slope({n: p[0] for n, p in v.items()}):.2f}" for m, v in results.items()))
    if arguments.out:
        arguments.out.write_text(picture(results))
    for length in (int(n) for n in arguments.train.split(",") if n):
        found = ", ".join(f"{model} {accuracy(folder, model, length):.3f}" for model in arguments.models.split(","))
        print(f"\nBest accuracy at {length} positions in {arguments.steps} steps of 32 sequences (a guess: {1 / arguments.keys:.3f}): {found}", flush=True)
