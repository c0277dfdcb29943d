"""The state space of Mamba-2 in chunks, forward and backward, beside PyTorch on the same processor: the launches of `ssd` in a step of a run with one layer
(`engine profile`), and the same chunked form in PyTorch with autograd (float32, as many threads as cores).

    cargo build --release && pip install torch numpy && python3 benches/ssd_pytorch.py [--length 2048] [--features 768]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).parents[1]
RUN = """
[model]
kind = "stack"
layers = [{{ kind = "mamba2", state = {state}, head = {head}, chunk = {chunk} }}, {{ kind = "last" }}, {{ kind = "linear" }}]
[data]
kind = "samples"
file = '{file}'
inputs = {{ x = "x" }}
targets = {{ y = "y" }}
split = "sequential"
validation_share = 0.5
[loss]
kind = "regression"
[train]
batch = 1
epochs = 1
"""


def chunked(x, b, c, delta, a_log, d, chunk):
    """Dao & Gu 2024, section 6: x (B, T, H, P), b and c (B, T, N), delta (B, T, H)."""
    batch, length, heads, _ = x.shape
    x, b, c, delta = (v.unflatten(1, (length // chunk, chunk)) for v in (x, b, c, delta))
    alpha = (-torch.exp(a_log) * delta).cumsum(2)
    last = alpha[:, :, -1:]
    within = torch.tril(torch.ones(chunk, chunk, dtype=torch.bool))
    # (batch, chunk, i, j, head)
    decay = torch.exp((alpha[:, :, :, None] - alpha[:, :, None]).masked_fill(~within[None, None, :, :, None], -torch.inf))
    m = (c @ b.transpose(-1, -2))[..., None] * decay * delta[:, :, None]
    y = torch.einsum("bcijh,bcjhp->bcihp", m, x)
    left = torch.einsum("bcjhp,bcjn->bchpn", x * (torch.exp(last - alpha) * delta)[..., None], b)
    state, states = torch.zeros_like(left[:, 0]), []
    for k in range(left.shape[1]):
        states.append(state)
        state = torch.exp(last[:, k, 0])[..., None, None] * state + left[:, k]
    before = torch.einsum("bcin,bchpn->bcihp", c, torch.stack(states, 1))
    return (y + torch.exp(alpha)[..., None] * before + d[:, None] * x).flatten(1, 2)


def pytorch(sizes, rounds):
    torch.manual_seed(1)
    length, heads, head, state, chunk = sizes
    leaf = lambda *shape: torch.randn(*shape, requires_grad=True)
    x, b, c = leaf(1, length, heads, head), leaf(1, length, state), leaf(1, length, state)
    delta, a_log, d = torch.rand(1, length, heads).mul(0.1).requires_grad_(), leaf(heads), leaf(heads)
    upstream, seconds = torch.randn(1, length, heads, head), []
    for _ in range(rounds):
        began = time.perf_counter()
        chunked(x, b, c, delta, a_log, d, chunk).backward(upstream)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2]


def engine(sizes, features, rounds):
    length, _, head, state, chunk = sizes
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        np.savez(folder / "data.npz", x=np.random.default_rng(1).standard_normal((2, length, features), dtype=np.float32), y=np.zeros((2, 1), np.float32) + [[1], [2]])
        (folder / "run.toml").write_text(RUN.format(state=state, head=head, chunk=chunk, file=folder / "data.npz"))
        command = [arguments.engine, "profile", folder / "run.toml", "--all", "--rounds", rounds, "--json"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
    found = json.loads(done.stdout)
    rows = [row for row in found["kernels"] if ".ssd" in row["kernel"]]
    return sum(row["seconds"] for row in rows), sorted(((row["seconds"], row["kernel"]) for row in rows), reverse=True)


parser = argparse.ArgumentParser()
parser.add_argument("--engine", default=ROOT / "target/release/engine")
parser.add_argument("--length", type=int, default=2048)
parser.add_argument("--features", type=int, default=768)
parser.add_argument("--rounds", type=int, default=5)
arguments = parser.parse_args()
sizes = (arguments.length, 2 * arguments.features // 64, 64, 64, 64)
for turn in range(2):
    ours, rows = engine(sizes, arguments.features, arguments.rounds)
    theirs = pytorch(sizes, arguments.rounds)
    print(f"T {sizes[0]}, H {sizes[1]}, P 64, N 64, chunks of 64: engine {1e3 * ours:.1f} ms, PyTorch {1e3 * theirs:.1f} ms, ratio {ours / theirs:.2f}")
for seconds, kernel in rows[:12]:
    print(f"  {1e3 * seconds:7.1f} ms  {kernel}")
