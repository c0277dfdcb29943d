"""Trains the model of data/runs/gpt_cpu.toml in PyTorch, with its optimiser and schedule and with windows and initial weights of its own:

    python3 benches/gpt_pytorch.py TEXT [--seeds 1 2 3] [--steps 2000]

It prints the loss over the whole validation part, the last tenth of the text, each token predicted once from at most 64 tokens before it.
"""

import argparse
import math
import time

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 128, 4, 4, 64, 12
RATE, LEAST, WARMUP = 1e-3, 1e-4, 100


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, time_steps, _ = x.shape
        heads = [part.view(batch, time_steps, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).split(WIDTH, dim=2)]
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


class Model(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def loss(self, tokens):
        x = self.tokens(tokens[:, :-1]) + self.positions.weight[: tokens.shape[1] - 1]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")


def rate(step, steps):
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    return LEAST + 0.5 * (RATE - LEAST) * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def validate(model, text):
    """Mean loss of all tokens but the first."""
    total, size = 0.0, 64 * CONTEXT
    with torch.no_grad():
        for start in range(0, len(text) - 1, size):
            part = text[start : start + size + 1]
            whole = (len(part) - 1) // CONTEXT * CONTEXT
            for windows in (part[: whole + 1].unfold(0, CONTEXT + 1, CONTEXT) if whole else None, part[whole:][None]):
                if windows is not None and windows.shape[1] > 1:
                    total += model.loss(windows).sum().item()
    return total / (len(text) - 1)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("text")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--steps", type=int, default=2000)
    given = arguments.parse_args()
    text = open(given.text, encoding="utf-8").read()
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([numbers[character] for character in text])
    train, validation = tokens[: int(0.9 * len(tokens))], tokens[int(0.9 * len(tokens)) :]
    for seed in given.seeds:
        torch.manual_seed(seed)
        model = Model(len(numbers))
        matrices = [weight for weight in model.parameters() if weight.dim() > 1]
        others = [weight for weight in model.parameters() if weight.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
        started = time.time()
        for step in range(given.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, given.steps)
            starts = torch.randint(len(train) - CONTEXT, (BATCH,))
            windows = torch.stack([train[start : start + CONTEXT + 1] for start in starts])
            optimizer.zero_grad()
            model.loss(windows).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        seconds = time.time() - started
        print(f"seed {seed}: loss {validate(model, validation):.4f}, {1e3 * seconds / given.steps:.1f} ms a step", flush=True)


if __name__ == "__main__":
    main()
