"""Writes the goldens of the next-vector models and of their loss terms, computed in float64.

    pip install torch numpy safetensors && python3 kernels-tests/golden/make_lvm.py
"""

import pathlib
import sys

import torch
from lvm_models import build, cosine, cycle, infonce, loss_of, mmd, moment, mse, optimizer_of, RECIPES, stat, step, variance
from safetensors.torch import save_file
from torch.nn import functional as F

DIM, CONTEXT, BATCH, STEPS = 24, 5, 6, 10
TRANSFORMER = {"width": 32, "heads": 4, "layers": 2, "feed_forward": 48, "dropout": 0.0}
SIZES = {
    "lvm_mlp": {"hidden": 32, "dropout": 0.0},
    "lvm_transformer": TRANSFORMER,
    "lvm_lstm": {"hidden": 20, "layers": 2, "dropout": 0.0},
    # Halves of the stacked projection begin at multiples of 64.
    "lvm_transformer_infonce": {**TRANSFORMER, "width": 64, "feed_forward": 16},
    "lvm_lstm_small": {"hidden": 16, "layers": 2, "dropout": 0.0},
    "lvm_gru": {"width": 16, "layers": 2},
    "lvm_amn": {"width": 16, "hidden": 32},
    "lvm_lstm_unified": {"hidden": 20, "layers": 2, "dropout": 0.0},
    "lvm_gru_unified": {"width": 16, "layers": 2},
    "lvm_mamba2": {"width": 12, "layers": 2, "state": 5, "head": 6, "groups": 2},
    "lvm_mamba2_unified": {"width": 16, "layers": 2, "state": 4, "head": 8, "conv": 3},
}


def save(name, tensors):
    path = pathlib.Path(__file__).parent / f"{name}.safetensors"
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, path)
    return f"{name:24}{path.stat().st_size:>8} bytes"


def make(name):
    torch.manual_seed(2026)
    model = build(name, DIM, CONTEXT, **SIZES[name])
    # Some weights start as copies, zeros or ones; different ones make a stricter test.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {f"weights.{n}": p.detach().clone() for n, p in model.named_parameters()}
    contexts = F.normalize(torch.randn(STEPS, BATCH, CONTEXT, DIM), dim=-1)
    targets = F.normalize(F.normalize(contexts.mean(2), dim=-1) + F.normalize(torch.randn(STEPS, BATCH, DIM), dim=-1), dim=-1)
    model = model.double()
    outputs = model(contexts[0].double())
    loss_of(outputs, targets[0].double(), RECIPES[name][5]).backward()
    gradients = {f"gradients.{n}": p.grad.float().clone() for n, p in model.named_parameters()}
    optimizer = optimizer_of(name, model)
    losses = [step(name, model, optimizer, c.double(), t.double()) for c, t in zip(contexts, targets)]
    tensors = {**weights, **gradients, "contexts": contexts, "targets": targets, "outputs": outputs.float()}
    size = save(name, {**tensors, "losses": torch.tensor(losses, dtype=torch.float64)})
    print(size, f"{sum(w.numel() for w in weights.values()):>8} weights, losses {losses[0]:.6f} … {losses[-1]:.6f}")


def make_losses():
    torch.manual_seed(2026)
    r, t, mean = torch.randn(7, DIM), 0.3 * torch.randn(7, DIM), 0.05 * torch.randn(DIM)
    std, anchors, nearest = 0.2 + 0.02 * torch.randn(DIM), F.normalize(torch.randn(9, DIM)), F.normalize(torch.randn(7, DIM))
    sigma = torch.pdist(anchors).median()
    inputs = {"r": r, "t": t, "anchors": anchors, "sigma": sigma, "train_mean": mean, "train_std": std, "nearest": nearest}
    t64, mean64, std64, anchors64, nearest64, sigma64 = (x.double() for x in (t, mean, std, anchors, nearest, sigma))
    terms = {
        "mse_raw": lambda r: mse(r, t64, "raw"),
        "mse_normalized": lambda r: mse(r, t64, "normalized"),
        "cosine": lambda r: cosine(r, t64),
        "infonce": lambda r: infonce(r, t64, 0.07),
        "moment": lambda r: moment(r, t64),
        "variance": variance,
        "mmd": lambda r: mmd(r, anchors64, sigma64),
        "stat": lambda r: stat(r, mean64, std64),
        "cycle": lambda r: cycle(r, nearest64),
    }
    tensors = dict(inputs)
    for name, term in terms.items():
        leaf = r.double().requires_grad_()
        value = term(leaf)
        value.backward()
        tensors |= {f"values.{name}": value, f"gradients.{name}": leaf.grad.float()}
        print(f"{name:24}{value.item():>12.8f}")
    print(save("lvm_losses", tensors))


for name in sys.argv[1:] or SIZES:
    make(name)
if not sys.argv[1:]:
    make_losses()
