"""The mechanism transformer in PyTorch: whole trainings by the recipe. Times of steps are in `make bench-peers`.

    pip install torch transformers numpy && python3 benches/mechanism_pytorch.py --train mechanism_phase1b --data FILE.npz --epochs 200 --seed 1
"""

import argparse
import math
import os
import pathlib
import sys
import time

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "kernels-tests" / "golden"))
from mechanism_models import PHASES, build, loss_of, optimizer_of, step, used

RATE = 5e-4


def sizes(arguments):
    given = {"d": arguments.set_d, "layers": arguments.layers, "heads": arguments.heads}
    return {k: v for k, v in given.items() if v}


def factor(epoch, epochs):
    """Of the learning rate in the epoch, from 0: linear 0.1 → 1 over the first tenth, then cosine to 0."""
    warmup = epochs // 10
    if epoch < warmup:
        return 0.1 + 0.9 * epoch / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (epoch - warmup) / (epochs - warmup))


def distances(predicted, joints, mask, std):
    """The sum of the Euclidean distances in mm over the valid joints."""
    return (((predicted - joints) * std).norm(dim=-1) * mask).sum().item()


@torch.no_grad()
def evaluate(name, model, data, batch, std):
    """Loss, coordinate loss and mean distance in mm over the valid joints, teacher-forced."""
    model.eval()
    sums, valid = [0.0, 0.0, 0.0], 0.0
    for latents, types, joints, mask in zip(*(x.split(batch) for x in data)):
        outputs = model(latents, types, joints)
        weight = mask.sum().item()
        loss, coordinate, _ = loss_of(outputs, joints, mask, PHASES[name]["loss"])
        values = loss.item() * weight, coordinate.item() * weight, distances(outputs[..., :2], joints, mask, std)
        sums, valid = [s + v for s, v in zip(sums, values)], valid + weight
    return [s / valid for s in sums]


@torch.no_grad()
def free_running(model, data, batch, std):
    """The mean distance in mm over the valid joints when each prediction is the next input."""
    model.eval()
    total = 0.0
    for latents, types, joints, mask in zip(*(x.split(batch) for x in data)):
        predicted = torch.zeros_like(joints)
        for i in range(joints.shape[1]):
            predicted[:, i] = model(latents, types, predicted[:, : i + 1])[:, i, :2]
        total += distances(predicted, joints, mask, std)
    return total / data[3].sum().item()


def train(arguments):
    name, epochs, batch = arguments.train, arguments.epochs, arguments.batch
    file = numpy.load(arguments.data)
    data = [torch.from_numpy(file[k].astype(t)) for k, t in [("latents", "f4"), ("types", "i8"), ("joints", "f4"), ("mask", "f4")]]
    count = len(data[0]) * 4 // 5
    if count < batch:
        sys.exit(f"{count} samples to train on, fewer than a batch of {batch}")
    valid = data[2][:count][data[3][:count] > 0].double()
    mean, std = valid.mean(0), valid.std(0, correction=0)
    away = ((data[2][count:].double() - mean).norm(dim=-1) * data[3][count:]).sum() / data[3][count:].sum()
    if not PHASES[name]["normalise"]:
        mean, std = torch.zeros(2).double(), torch.ones(2).double()
    data[2] = ((data[2].double() - mean) / std).float() * (data[3] > 0)[..., None]
    std = std.float()
    training, validation = [x[:count] for x in data], [x[count:] for x in data]
    torch.manual_seed(arguments.seed)
    model = build(name, **sizes(arguments))
    optimizer = optimizer_of(name, model)
    parameters = sum(p.numel() for _, p in used(model))
    samples = f"{count} samples, {len(validation[0])} to validate, {parameters:,} parameters"
    print(f"{name} seed {arguments.seed}: batch {batch}, learning rate {RATE:g}, {samples}", flush=True)
    start, best = time.perf_counter(), (math.inf,)
    for epoch in range(1, epochs + 1):
        model.train()
        optimizer.param_groups[0]["lr"] = RATE * factor(epoch - 1, epochs)
        batches = torch.randperm(count).split(batch)[: count // batch]
        total = sum(step(name, model, optimizer, *(x[rows] for x in training)) for rows in batches)
        if epoch % arguments.every and epoch < epochs:
            continue
        loss, coordinate, distance = evaluate(name, model, validation, batch, std)
        losses = f"train loss {total / len(batches):.6f}  validation loss {loss:.6f}  coordinate loss {coordinate:.6f}"
        print(f"  epoch {epoch:>3}  {losses}  distance {distance:.4f} mm", flush=True)
        if coordinate < best[0]:
            best = coordinate, distance, epoch, {n: t.clone() for n, t in model.state_dict().items()}
    seconds = time.perf_counter() - start
    if len(best) == 1:
        sys.exit("  no finite coordinate loss")
    coordinate, distance, epoch, state = best
    model.load_state_dict(state)
    print(f"  best by validation coordinate loss: {coordinate:.6f} at epoch {epoch}, distance {distance:.4f} mm", end="")
    print(f", free-running {free_running(model, validation, batch, std):.4f} mm, mean predictor {away:.4f} mm")
    print(f"  {seconds:.1f} s", flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--train", choices=PHASES, metavar="RUN", required=True)
parser.add_argument("--data", metavar="FILE.npz", required=True)
parser.add_argument("--epochs", type=int, default=200)
parser.add_argument("--every", type=int, default=1, help="epochs between two lines")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--batch", type=int, default=512)
parser.add_argument("--set-d", type=int, metavar="D", help="instead of the phase's")
parser.add_argument("--layers", type=int, help="instead of the phase's")
parser.add_argument("--heads", type=int, help="instead of 8")
parser.add_argument("--threads", type=int, default=os.cpu_count())
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
train(arguments)
