"""The training steps of `cargo bench -- train_step` in PyTorch on the same cores: median milliseconds.

    pip install torch && python3 benches/train_step_pytorch.py
"""

import os
import time

import torch

torch.set_num_threads(os.cpu_count())


class Model(torch.nn.Module):
    def __init__(self, d, heads, feed_forward, learned):
        super().__init__()
        self.learned = learned
        if learned:
            self.value, self.position = torch.nn.Embedding(256, d), torch.nn.Embedding(8, d)
        layer = torch.nn.TransformerEncoderLayer(d, heads, feed_forward, 0.0, "gelu", batch_first=True)
        self.transformer = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = torch.nn.Linear(d, 256)
        self.mask = torch.triu(torch.full((8, 8), float("-inf")), 1)

    def forward(self, tokens):
        positions = torch.arange(8)
        if self.learned:
            x = self.value(tokens) + self.position(positions)
        else:
            x = torch.stack([tokens / 255.0, (positions / 7.0).expand(tokens.shape)], -1)
        return self.output(self.transformer(x, mask=self.mask))


for name, sizes in [("integer_sequences", (2, 2, 32, False)), ("integer_sequences_d64", (64, 4, 256, True))]:
    model = Model(*sizes)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    data = torch.randint(0, 256, (64, 32, 9))

    def step(batch):
        logits, targets = model(batch[:, :8]), batch[:, 1:].reshape(-1)
        ce = torch.nn.functional.cross_entropy(logits.reshape(-1, 256), targets, reduction="none")
        loss = (ce * (1 + 0.1 * (logits.argmax(-1).reshape(-1) - targets).abs())).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for i in range(20):
        step(data[i])
    times = []
    for i in range(200):
        start = time.perf_counter()
        step(data[i % 64])
        times.append(time.perf_counter() - start)
    print(f"{name:24}{sum(p.numel() for p in model.parameters()):>10} weights{1e3 * sorted(times)[100]:10.2f} ms a step (median)")
