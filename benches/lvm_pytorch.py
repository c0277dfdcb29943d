"""The next-vector models in PyTorch: milliseconds of a training step, and whole trainings by their recipes.

    pip install torch numpy && python3 benches/lvm_pytorch.py --steps
    python3 benches/lvm_pytorch.py --train lvm_mlp --data FILE.npz --epochs 30 --seed 1
"""

import argparse
import os
import pathlib
import sys
import time

import numpy
import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "kernels-tests" / "golden"))
from lvm_models import accuracy, build, loss_of, MODELS, optimizer_of, RECIPES, step


def steps(arguments):
    print(f"{'run':24}{'batch':>6}{'ms a step':>12}{'samples/s':>12}    median of {arguments.count}, {torch.get_num_threads()} threads")
    for name in MODELS:
        torch.manual_seed(arguments.seed)
        model, batch = build(name), RECIPES[name][3]
        optimizer = optimizer_of(name, model)
        contexts, targets = F.normalize(torch.randn(8, batch, 5, 768), dim=-1), F.normalize(torch.randn(8, batch, 768), dim=-1)
        times = []
        for i in range(5 + arguments.count):
            start = time.perf_counter()
            step(name, model, optimizer, contexts[i % 8], targets[i % 8])
            times.append(time.perf_counter() - start)
        median = sorted(times[5:])[arguments.count // 2]
        print(f"{name:24}{batch:>6}{1e3 * median:>12.2f}{batch / median:>12.0f}", flush=True)


@torch.no_grad()
def evaluate(model, contexts, targets, batch, terms):
    """Mean loss and mean cosine over the samples."""
    model.eval()
    loss = cosine = 0.0
    for context, target in zip(contexts.split(batch), targets.split(batch)):
        r = model(context)
        loss += loss_of(r, target, terms).item() * len(r)
        cosine += accuracy(r, target).sum().item()
    return loss / len(targets), cosine / len(targets)


def train(arguments):
    name, epochs = arguments.train, arguments.epochs
    _, rate, schedule, batch, _, terms = RECIPES[name]
    data = numpy.load(arguments.data)
    split = lambda s: [torch.from_numpy(data[s + part].astype(numpy.float32)) for part in ("context_sequences", "target_vectors")]
    (contexts, targets), validation, ood = split(""), split("val_"), split("ood_")
    torch.manual_seed(arguments.seed)
    model = build(name, contexts.shape[2], contexts.shape[1])
    optimizer = optimizer_of(name, model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=3)
    windows = f"{len(targets)} windows of {contexts.shape[2]}"
    print(f"{name} seed {arguments.seed}: batch {batch}, learning rate {rate:g} {schedule}, {windows}", flush=True)
    start, history = time.perf_counter(), []
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(targets)).split(batch):
            total += step(name, model, optimizer, contexts[rows], targets[rows]) * len(rows)
        loss, cosine = evaluate(model, *validation, batch, terms)
        history.append((loss, cosine, epoch, evaluate(model, *ood, batch, terms)[1]))
        losses = f"train loss {total / len(targets):.6f}  validation loss {loss:.6f}"
        print(f"  epoch {epoch:>2}  {losses}  validation cosine {cosine:.4f}", flush=True)
        if schedule == "plateau":
            plateau.step(loss)
    seconds = time.perf_counter() - start
    for by, (_, cosine, epoch, outside) in [("cosine", max(history, key=lambda h: h[1])), ("loss", min(history))]:
        print(f"  best by validation {by}: validation cosine {cosine:.4f} at epoch {epoch}, OOD cosine {outside:.4f}")
    print(f"  {seconds:.1f} s", flush=True)


parser = argparse.ArgumentParser()
mode = parser.add_mutually_exclusive_group(required=True)
mode.add_argument("--steps", action="store_true")
mode.add_argument("--train", choices=MODELS, metavar="RUN")
parser.add_argument("--data", metavar="FILE.npz")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--count", type=int, default=30, help="measured steps")
parser.add_argument("--threads", type=int, default=os.cpu_count())
arguments = parser.parse_args()
if arguments.train and not arguments.data:
    parser.error("--train needs --data")
torch.set_num_threads(arguments.threads)
(train if arguments.train else steps)(arguments)
