"""Writes small data sets of four kinds, and what PyTorch makes of them: weights to begin with, the losses of ten steps, and metrics, in float64.

    pip install torch numpy safetensors && python3 kernels-tests/golden/make_samples.py
"""

import csv
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent / "samples"
STEPS = 10
random = np.random.default_rng(2026)


def scaled(values, train, lengths=None):
    """Values with mean 0 and deviation 1 of each feature over the training rows, with the mean and deviation."""
    rows = values[train]
    if lengths is not None:
        rows = np.concatenate([row[:n] for row, n in zip(rows, lengths[train])])
    rows = rows.reshape(-1, values.shape[-1]).astype(np.float64)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation[deviation < 1e-12] = 1
    # As they are stored with the weights.
    mean, deviation = mean.astype(np.float32).astype(np.float64), deviation.astype(np.float32).astype(np.float64)
    return torch.tensor((values - mean) / deviation).float().double(), (mean, deviation)


class Recurrent(nn.Module):
    """A recurrent layer, its last valid state, and a linear layer, by the names of a stack."""

    def __init__(self, cell, features, hidden, outputs):
        super().__init__()
        self.add_module("0", cell(features, hidden, batch_first=True))
        self.add_module("2", nn.Linear(hidden, outputs))

    def forward(self, x, lengths):
        y = self.get_submodule("0")(x)[0]
        return self.get_submodule("2")(y[torch.arange(len(y)), lengths - 1])


class Mlp(nn.Sequential):
    def __init__(self, features, hidden, outputs):
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, outputs))

    def forward(self, x, lengths):
        return super().forward(x)


class BothWays(nn.Module):
    """A causal convolution, a recurrent layer in both directions, the mean over the valid positions, and a linear layer."""

    def __init__(self, features, channels, hidden, outputs):
        super().__init__()
        self.add_module("0", nn.Conv1d(features, channels, 3, dilation=2))
        self.add_module("1", nn.GRU(channels, hidden, batch_first=True, bidirectional=True))
        self.add_module("3", nn.Linear(2 * hidden, outputs))

    def forward(self, x, lengths):
        y = self.get_submodule("0")(F.pad(x.transpose(1, 2), (4, 0))).transpose(1, 2)
        packed = nn.utils.rnn.pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
        y = nn.utils.rnn.pad_packed_sequence(self.get_submodule("1")(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        # What follows the end is zeros.
        return self.get_submodule("3")(y.sum(1) / lengths[:, None])


def train(name, model, x, y, lengths, train, validation, batch, classes, unit=None):
    torch.manual_seed(7)
    model = model.float()
    save_file({n: p.detach().clone().contiguous() for n, p in model.named_parameters()}, FOLDER / f"{name}.safetensors")
    model = model.double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    losses = []
    loss_of = F.cross_entropy if classes else F.mse_loss

    def outputs(numbers):
        out = model(x[numbers], lengths[numbers])
        return out if classes else out.reshape(y[numbers].shape)

    for step in range(STEPS):
        numbers = train[step * batch : (step + 1) * batch]
        loss = loss_of(outputs(numbers), y[numbers])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        out, truth = outputs(validation), y[validation]
        metrics = {"loss": loss_of(out, truth).item()}
        if classes:
            best = out.argmax(1)
            metrics["accuracy"] = (best == truth).double().mean().item()
            recalls = [(best[truth == c] == c).double().mean().item() for c in truth.unique()]
            metrics["balanced_accuracy"] = float(np.mean(recalls))
            out = out.softmax(1)
        else:
            mean, deviation = unit
            out, truth = out * deviation + mean, truth * deviation + mean
            squares = ((out - truth) ** 2).mean().item()
            means = truth.reshape(-1, truth.shape[-1]).mean(0)
            metrics |= {"mse": squares, "rmse": squares**0.5, "mae": (out - truth).abs().mean().item()}
            metrics["r2"] = 1 - ((out - truth) ** 2).sum().item() / ((truth - means) ** 2).sum().item()
    return {"losses": losses, "metrics": metrics, "outputs": out[:3].flatten().tolist(), "first": int(validation[0])}


def split(n, gap=0):
    border = int(0.8 * n)
    return torch.arange(border - gap), torch.arange(border, n)


def sensors():
    n, t, h = 90, 24, 12
    phase, pace = random.uniform(0, 6.3, n), random.uniform(0.2, 0.5, n)
    wave = np.sin(phase[:, None] + pace[:, None] * np.arange(t + h)) * 40 + 100
    x = np.stack([wave[:, :t] + random.normal(size=(n, t)), np.broadcast_to(pace[:, None], (n, t))], 2).astype(np.float32)
    y = wave[:, t:, None].astype(np.float32)
    np.savez(FOLDER / "sensors.npz", readings=x, target=y)
    numbers, validation = split(n)
    (x, _), (y, unit) = scaled(x, numbers), scaled(y, numbers)
    return train("sensors", Recurrent(nn.GRU, 2, 8, h), x, y, torch.full((n,), t), numbers, validation, 7, False, [torch.tensor(u) for u in unit])


def sequences():
    n, t = 90, 9
    lengths, labels = random.integers(2, t + 1, n), random.integers(0, 3, n)
    x = np.zeros((n, t, 3), np.float32)
    for i in range(n):
        steps = np.arange(lengths[i])
        x[i, : lengths[i]] = np.stack([np.sin(steps * (labels[i] + 1)), np.cos(steps * (labels[i] + 1)), 5 + steps], 1)
    np.savez(FOLDER / "sequences.npz", x=x, labels=labels, lengths=lengths)
    numbers, validation = split(n)
    x, _ = scaled(x, numbers, lengths)
    given = x, torch.tensor(labels), torch.tensor(lengths), numbers, validation, 7, True
    both = train("both_ways", BothWays(3, 5, 4, 3), *given)
    return {"sequences": train("sequences", Recurrent(nn.LSTM, 3, 6, 3), *given), "both_ways": both}


def mixed():
    n, colours, cities = 120, ["blue", "green", "red"], ["Oslo", "San José, Costa Rica"]
    colour, city = random.integers(0, 3, n), random.integers(0, 2, n)
    size, age = random.normal(size=n).astype(np.float32) * 3 + 10, random.integers(0, 30, n)
    price = (20 * size + 5 * colour * age - 30 * city).astype(np.float32)
    with open(FOLDER / "mixed.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "size", "age", "colour", "city", "price"])
        for i in range(n):
            table.writerow([i, repr(float(size[i])), age[i], colours[colour[i]], cities[city[i]], repr(float(price[i]))])
    x = np.concatenate([size[:, None], age[:, None], np.eye(3)[colour], np.eye(2)[city]], 1).astype(np.float32)
    numbers, validation = split(n)
    (x, _), (y, unit) = scaled(x, numbers), scaled(price[:, None], numbers)
    return train("mixed", Mlp(7, 8, 1), x, y, torch.ones(n, dtype=torch.long), numbers, validation, 9, False, [torch.tensor(u) for u in unit])


def series():
    n, context, horizon = 200, 24, 12
    moments = np.arange(n)
    load = (50 + 20 * np.sin(moments * 0.52) + random.normal(size=n)).astype(np.float32)
    heat = (10 + 5 * np.cos(moments * 0.52)).astype(np.float32)
    with open(FOLDER / "series.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["heat", "load"])
        table.writerows([repr(float(a)), repr(float(b))] for a, b in zip(heat, load))
    count = n - context - horizon + 1
    numbers, validation = split(count, context + horizon - 1)
    both = np.stack([load, heat], 1)
    # Statistics of all moments that are an input, or a target, of a training window.
    past, _ = scaled(both, np.arange(len(numbers) + context - 1))
    future, unit = scaled(load[:, None], np.arange(context, context + len(numbers) + horizon - 1))
    x = torch.stack([past[i : i + context] for i in range(count)])
    y = torch.stack([future[i + context : i + context + horizon] for i in range(count)])
    return train("series", Recurrent(nn.GRU, 2, 8, horizon), x, y, torch.full((count,), context), numbers, validation, 6, False, [torch.tensor(u) for u in unit])


torch.manual_seed(2026)
FOLDER.mkdir(exist_ok=True)
found = {"sensors": sensors(), **sequences(), "mixed": mixed(), "series": series()}
(FOLDER / "expected.json").write_text(json.dumps(found, indent=1) + "\n")
for name, values in found.items():
    print(name, values["metrics"], values["losses"][0], values["losses"][-1])
