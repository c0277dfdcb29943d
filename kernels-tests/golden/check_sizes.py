"""Ten-step losses of the nine next-vector runs at their shipped sizes and batch, dim 384, clipping and all, beside PyTorch in float64.

    cargo build --release && pip install torch numpy safetensors && python3 kernels-tests/golden/check_sizes.py [target/release/engine] [dim]

A sum over the weights or over a long batch that is cut off shows here, and in no golden: those are small.
"""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from lvm_models import RECIPES, build, optimizer_of, step
from safetensors.torch import save_file
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).parents[2]
ENGINE = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/engine")
DIM = int(sys.argv[2]) if len(sys.argv) > 2 else 384
STEPS = 10

worst = {}
for name, (*_, batch, _, _) in RECIPES.items():
    torch.manual_seed(2026)
    run = ROOT / f"data/runs/{name}.toml"
    drops = {"dropout": 0.0} if "dropout" in run.read_text() else {}
    model = build(name, DIM, **drops)
    contexts = F.normalize(torch.randn(STEPS * batch, 5, DIM), dim=-1)
    targets = F.normalize(F.normalize(contexts.mean(1), dim=-1) + F.normalize(torch.randn(STEPS * batch, DIM), dim=-1), dim=-1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({n: p.detach().clone().contiguous() for n, p in model.named_parameters()}, folder / "weights.safetensors")
        few = {"val_context_sequences": contexts[:batch].numpy(), "val_target_vectors": targets[:batch].numpy()}
        np.savez(folder / "data.npz", context_sequences=contexts.numpy(), target_vectors=targets.numpy(), **few)
        sets = [f"data.file={folder / 'data.npz'}", f"data.dim={DIM}", "train.shuffle=false", "train.log_every=1", "schedule.kind=constant"]
        sets += [f"model.{key}={value}" for key, value in drops.items()]
        command = [ENGINE, "train", run, "--out", folder / "run", "--init", folder / "weights.safetensors", "--steps", STEPS]
        done = subprocess.run([*map(str, command), *(x for s in sets for x in ("--set", s))], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    ours = [line["loss"] for line in lines if line["split"] == "train"]
    assert len(ours) == STEPS, lines[:2]

    def train(model, dtype):
        model = model.to(dtype)
        optimizer = optimizer_of(name, model)
        return [step(name, model, optimizer, c.to(dtype), t.to(dtype)) for c, t in zip(contexts.split(batch), targets.split(batch))]

    def apart(losses):
        return max(abs(a - b) / abs(b) for a, b in zip(losses, exact))

    exact, single = train(copy.deepcopy(model), torch.float64), train(model, torch.float32)
    # Adam divides the gradients of the first steps by their own size, rounding errors of small ones as well: where that matters, PyTorch's
    # own float32 is away from its float64, and so may be the engine.
    allowed = max(1e-6, 2 * apart(single))
    worst[name] = apart(ours) / allowed
    print(f"{name:26} losses {ours[0]:.6f} … {ours[-1]:.6f}; from float64: engine {apart(ours):.1e}, PyTorch's float32 {apart(single):.1e}", flush=True)
assert max(worst.values()) <= 1, worst
