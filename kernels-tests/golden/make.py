"""Writes the goldens of kernels-tests/models.rs: weights, first gradients and ten losses of PyTorch, computed in float64.

    pip install torch numpy safetensors && python3 kernels-tests/golden/make.py
"""

import pathlib

import torch
from safetensors.torch import save_file

BATCH, STEPS, ALPHA = 8, 10, 0.1


class SequenceTransformer(torch.nn.Module):
    def __init__(self, d, heads, feed_forward, learned):
        super().__init__()
        if learned:
            self.embedding = torch.nn.ModuleDict({"value": torch.nn.Embedding(256, d), "position": torch.nn.Embedding(8, d)})
        layer = torch.nn.TransformerEncoderLayer(d, heads, feed_forward, dropout=0.0, activation="gelu", batch_first=True)
        self.transformer = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = torch.nn.Linear(d, 256)
        self.learned = learned

    def forward(self, tokens):
        positions = torch.arange(8)
        if self.learned:
            x = self.embedding["value"](tokens) + self.embedding["position"](positions)
        else:
            x = torch.stack([tokens / 255.0, (positions / 7.0).expand(tokens.shape)], dim=-1).double()
        mask = torch.triu(torch.full((8, 8), float("-inf"), dtype=torch.float64), diagonal=1)
        return self.output(self.transformer(x, mask=mask))


def loss_of(model, sequences):
    logits = model(sequences[:, :8]).reshape(-1, 256)
    targets = sequences[:, 1:].reshape(-1)
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    distance = (logits.argmax(-1) - targets).abs()
    return (ce * (1 + ALPHA * distance)).mean()


def make(name, d, heads, feed_forward, learned):
    torch.manual_seed(2026)
    model = SequenceTransformer(d, heads, feed_forward, learned)
    # The two layers start as copies; different weights make a stricter test.
    with torch.no_grad():
        for parameter in model.transformer.layers[1].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {n: p.detach().clone().contiguous() for n, p in model.named_parameters()}
    model = model.double()
    sequences = torch.randint(0, 256, (STEPS, BATCH, 9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses, gradients = [], {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, sequences[step])
        loss.backward()
        if step == 0:
            gradients = {n: p.grad.float().clone() for n, p in model.named_parameters()}
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    tensors = {f"weights.{n}": w for n, w in weights.items()} | {f"gradients.{n}": g for n, g in gradients.items()}
    tensors["sequences"] = sequences.to(torch.int32)
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file(tensors, pathlib.Path(__file__).parent / f"{name}.safetensors")
    print(name, sum(w.numel() for w in weights.values()), "weights, losses", losses[0], "…", losses[-1])


make("integer_sequences", 2, 2, 32, learned=False)
make("integer_sequences_d64", 64, 4, 256, learned=True)
