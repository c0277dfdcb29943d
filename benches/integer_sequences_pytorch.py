"""The run of data/runs/integer_sequences.toml in PyTorch, on the same batches, validations and tests.

    engine data sequences data/runs/integer_sequences.toml --out data/sequences.npz
    pip install torch numpy && python3 benches/integer_sequences_pytorch.py data/sequences.npz [--seed 1] [--patience 10] [--init W.safetensors]

With --init, which takes what `engine export` writes, it starts from the weights of a run.
"""

import argparse
import copy
import json
import math
import time

import numpy as np
import torch
from runs_pytorch import Sequences

PEAK, LOWEST, WARMUP, PATIENCE_AFTER, MIN_DELTA, ALPHA = 1e-3, 1e-6, 5000, 50_000, 0.001, 0.1


def results(model, sequences):
    """Per position: loss, cross-entropy, whether it is right, and the distance."""
    # -1 is behind the end of a sequence, and does not count.
    logits, targets = model(sequences[:, :8].clamp(min=0)), sequences[:, 1:]
    ce = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets.clamp(min=0), reduction="none")
    distance = (logits.argmax(-1) - targets).abs()
    known = targets >= 0
    return [values[known] for values in (ce * (1 + ALPHA * distance), ce, (distance == 0).float(), distance.float())]


def last(sequences):
    """Which of the counted positions are the last of their sequence."""
    known = sequences[:, 1:] >= 0
    return (known & ~torch.nn.functional.pad(known[:, 1:], (0, 1)))[known]


def measure(model, sequences):
    with torch.no_grad():
        loss, ce, right, distance = results(model, sequences)
    return {"last acc.": right[last(sequences)], "accuracy": right, "distance": distance, "CE": ce, "loss": loss}


def rate(step, total):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return LOWEST + (PEAK - LOWEST) * (1 + math.cos(math.pi * (step - WARMUP) / (total - WARMUP))) / 2


def weights(path):
    """The tensors of a .safetensors file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        body = file.read()
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    values = {name: np.frombuffer(body[slice(*e["data_offsets"])], "<f4").reshape(e["shape"]).copy() for name, e in tensors.items()}
    return {name: torch.from_numpy(value) for name, value in values.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--init")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = {name: torch.from_numpy(array.astype(np.int64)) for name, array in np.load(args.file).items()}
    model, total = Sequences(2, 2, 2, 32, learned=False), len(data["train"])
    if args.init:
        model.load_state_dict(weights(args.init))
    every = total // len(data["validation"])
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.01)
    best, best_step, kept, waiting, started = math.inf, 0, None, 0, time.time()
    for step, batch in enumerate(data["train"]):
        optimizer.param_groups[0]["lr"] = rate(step, total)
        optimizer.zero_grad()
        results(model, batch)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        if done % every:
            continue
        ce = measure(model, data["validation"][done // every - 1])["CE"].mean().item()
        if ce < best - MIN_DELTA:
            best, best_step, kept, waiting = ce, done, copy.deepcopy(model.state_dict()), 0
        elif done > PATIENCE_AFTER:
            waiting += 1
            if args.patience and waiting >= args.patience:
                break
    print(f"{args.init or f'seed {args.seed}'}: {done} steps in {time.time() - started:.0f} s, best CE {best:.4f} at step {best_step}")
    model.load_state_dict(kept)
    for name, sequences in zip(["phase 1", "phase 2", "phase 3", "full mixture"], data["test"]):
        values = {k: v.mean().item() for k, v in measure(model, sequences).items()}
        shown = [f"{k} {100 * v:.1f} %" if "acc" in k else f"{k} {v:.3f}" for k, v in values.items()]
        print(f"{name:14}" + "  ".join(shown))


main()
