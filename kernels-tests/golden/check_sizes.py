"""Ten-step losses at the shipped sizes beside PyTorch in float64: the nine next-vector runs at dim 384 and the mechanism's phases, clipping and all.

    cargo build --release && pip install torch transformers numpy safetensors
    python3 kernels-tests/golden/check_sizes.py [--batch N] [--seeds N] [RUN …]

A sum over the weights or over a long batch that is cut off shows here, and in no golden: those are small.

Rounding cannot be told from an error in one run alone. Where a ReLU's input is within rounding of 0, or a gradient within rounding of 0 is
divided by its own size, as Adam does in the first steps, float32 takes another way than float64, PyTorch's as well as the engine's. So each
run is made with several seeds, and the engine's median may be at most 1e-6, or twice what PyTorch's own float32 reaches.
"""

import argparse
import copy
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import lvm_models
import mechanism_models
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).parents[2]
STEPS, DIM = 10, 384


def lvm(name, batch, folder):
    """The model, its weights and buffers, the ten batches and what the engine needs to take the same steps."""
    drops = {"dropout": 0.0} if "dropout" in (ROOT / f"data/runs/{name}.toml").read_text() else {}
    model = lvm_models.build(name, DIM, **drops)
    contexts = F.normalize(torch.randn(STEPS * batch, 5, DIM), dim=-1)
    targets = F.normalize(F.normalize(contexts.mean(1), dim=-1) + F.normalize(torch.randn(STEPS * batch, DIM), dim=-1), dim=-1)
    few = {"val_context_sequences": contexts[:batch].numpy(), "val_target_vectors": targets[:batch].numpy()}
    np.savez(folder / "data.npz", context_sequences=contexts.numpy(), target_vectors=targets.numpy(), **few)
    sets = [f"data.dim={DIM}", *(f"model.{key}={value}" for key, value in drops.items())]
    return model, dict(model.named_parameters()), (contexts, targets), sets


def mechanism(name, batch, folder):
    """As `lvm`; the joints are used as they are."""
    model = mechanism_models.build(name, dropout=0.0)
    weights = dict(mechanism_models.used(model)) | {n: b for n, b in model.named_buffers() if n == "joint_features.B"}
    samples = 2 * STEPS * batch
    latents, types, joints = torch.randn(samples, 50), torch.randint(0, 17, (samples,)), torch.randn(samples, 8, 2)
    mask = (torch.arange(8) < torch.randint(5, 9, (samples, 1))).float()
    data = (latents, types, joints, mask)
    np.savez(folder / "data.npz", latents=latents.numpy(), types=types.int().numpy(), joints=joints.numpy(), mask=mask.numpy())
    sets = ["model.dropout=0", "data.normalize=false", "data.split=sequential", "data.validation_share=0.5"]
    return model, weights, tuple(x[: samples // 2] for x in data), sets


def losses(name, seed, batch):
    """Of the ten steps: the engine's, PyTorch's in float32 and in float64."""
    torch.manual_seed(seed)
    models, new = (mechanism_models, mechanism) if name in mechanism_models.PHASES else (lvm_models, lvm)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, weights, data, sets = new(name, batch, folder)
        save_file({n: p.detach().clone().contiguous() for n, p in weights.items()}, folder / "weights.safetensors")
        sets += [f"data.file={folder / 'data.npz'}", "train.shuffle=false", "train.log_every=1", "schedule.kind=constant", f"train.batch={batch}"]
        run = ROOT / f"data/runs/{name}.toml"
        command = [arguments.engine, "train", run, "--out", folder / "run", "--init", folder / "weights.safetensors", "--steps", STEPS]
        done = subprocess.run([*map(str, command), *(x for s in sets for x in ("--set", s))], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    ours = [line["loss"] for line in lines if line["split"] == "train"]
    assert len(ours) == STEPS, lines[:2]

    def train(dtype):
        own = copy.deepcopy(model).to(dtype)
        optimizer = models.optimizer_of(name, own)
        given = [x.to(dtype) if x.is_floating_point() else x for x in data]
        return [models.step(name, own, optimizer, *parts) for parts in zip(*(x.split(batch) for x in given))]

    return ours, train(torch.float32), train(torch.float64)


parser = argparse.ArgumentParser()
parser.add_argument("runs", nargs="*", default=[*lvm_models.RECIPES, *mechanism_models.PHASES], metavar="RUN")
parser.add_argument("--engine", default=ROOT / "target/release/engine")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--batch", type=int, help="instead of the shipped one")
arguments = parser.parse_args()
mechanism_models.compute_in_the_models_type()
failed = []
print(f"{'run':26}{'batch':>6}    largest relative distance of a loss from float64, median (largest) of {arguments.seeds} seeds")
for name in arguments.runs:
    batch = arguments.batch or (512 if name in mechanism_models.PHASES else lvm_models.RECIPES[name][3])
    engine, single = [], []
    for seed in range(1, arguments.seeds + 1):
        ours, floats, exact = losses(name, seed, batch)
        for all_seeds, some in (engine, ours), (single, floats):
            all_seeds.append(max(abs(a - b) / abs(b) for a, b in zip(some, exact)))
    text = "  ".join(f"{who} {statistics.median(x):.1e} ({max(x):.1e})" for who, x in (("engine", engine), ("PyTorch's float32", single)))
    print(f"{name:26}{batch:>6}    {text}", flush=True)
    if statistics.median(engine) > max(1e-6, 2 * max(single)):
        failed.append(name)
if failed:
    sys.exit(f"further from float64 than rounding explains: {', '.join(failed)}")
