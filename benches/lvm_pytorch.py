"""The next-vector models in PyTorch: whole trainings by their recipes. Times of steps are in `make bench-peers`.

    pip install torch numpy && python3 benches/lvm_pytorch.py --train lvm_mlp --data FILE.npz --epochs 30 --seed 1
"""

import argparse
import os
import pathlib
import sys
import time

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "kernels-tests" / "golden"))
from lvm_models import MODELS, RECIPES, accuracy, build, loss_of, optimizer_of, step


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
parser.add_argument("--train", choices=MODELS, metavar="RUN", required=True)
parser.add_argument("--data", metavar="FILE.npz", required=True)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threads", type=int, default=os.cpu_count())
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
train(arguments)
