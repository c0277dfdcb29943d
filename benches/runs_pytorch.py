"""A run file's model, loss and optimiser in PyTorch, on made-up data: `stepper` gives its training step."""

import math
import pathlib
import random
import sys

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "kernels-tests" / "golden"))
import lvm_models as lvm

VECTORS = {
    ("vector_mlp",): lvm.Mlp,
    ("vector_transformer", "encoder", "relu"): lvm.Transformer,
    ("vector_transformer", "decoder", "gelu_norm"): lvm.TransformerInfonce,
    ("vector_lstm", "relu"): lvm.Lstm,
    ("vector_lstm", "gelu_norm"): lvm.LstmSmall,
    ("vector_lstm", "linear"): lvm.LstmUnified,
    ("vector_gru", "before", "gelu_norm"): lvm.Gru,
    ("vector_gru", "after", "linear"): lvm.GruUnified,
    ("vector_amn",): lvm.Amn,
}


class Sequences(nn.Module):
    """The transformer of the integer sequences: tokens (B, T) in, logits (B, T, values) out."""

    def __init__(self, d_model, heads, layers, feed_forward, learned, values=256, context=8):
        super().__init__()
        if learned:
            self.embedding = nn.ModuleDict({"value": nn.Embedding(values, d_model), "position": nn.Embedding(context, d_model)})
        layer = nn.TransformerEncoderLayer(d_model, heads, feed_forward, 0.0, "gelu", batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output = nn.Linear(d_model, values)
        self.learned, self.values = learned, values
        self.mask = torch.triu(torch.full((context, context), -math.inf), 1)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1])
        if self.learned:
            x = self.embedding["value"](tokens) + self.embedding["position"](positions)
        else:
            x = torch.stack([tokens / (self.values - 1), (positions / positions[-1]).expand(tokens.shape)], -1)
        return self.output(self.transformer(x, mask=self.mask))


class Recurrent(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return x + super().forward(x, x, x, need_weights=False)[0]


class MeanPool(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def stack(layers, width, length, out):
    """The modules of a `stack` over (B, length, width)."""
    activations, modules = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "mean_pool": MeanPool}, []
    for layer in layers:
        match layer["kind"]:
            case "linear":
                modules.append(nn.Linear(width, layer.get("out", out)))
                width = layer.get("out", out)
            case "lstm":
                modules.append(Recurrent(width, layer["hidden"], batch_first=True))
                width = layer["hidden"]
            case "flatten":
                modules.append(nn.Flatten())
                width *= length
            case "self_attention":
                modules.append(Attention(width, layer["heads"], layer.get("dropout", 0.0), batch_first=True))
            case "norm":
                modules.append(nn.LayerNorm(width))
            case "dropout":
                modules.append(nn.Dropout(layer["rate"]))
            case "residual":
                modules.append(Residual(*stack(layer["layers"], width, length, out)))
            case kind:
                modules.append(activations[kind]())
    return modules


def vectors(run):
    options, data, batch = dict(run["model"]), run["data"], run["train"]["batch"]
    dim, context = data["dim"], data["context"]
    if options["kind"] == "stack":
        model = nn.Sequential(*stack(options["layers"], dim, context, dim))
    else:
        variant = tuple(options.pop(key) for key in ("kind", "blocks", "norm", "head") if key in options)
        model = VECTORS[variant](dim, context, **options)
    x, t = F.normalize(torch.randn(8, batch, context, dim), dim=-1), F.normalize(torch.randn(8, batch, dim), dim=-1)
    terms, bank = {name: term for name, term in run["loss"].items() if name != "kind"}, t.flatten(0, 1)

    def loss(i):
        r, now = model(x[i % 8]), dict(terms)
        if "cycle" not in now or random.random() >= now["cycle"].get("share", 0.1):
            now.pop("cycle", None)
            return lvm.loss_of(r, t[i % 8], now)
        return lvm.loss_of(r, t[i % 8], now, nearest=bank[(F.normalize(r.detach()) @ bank.T).argmax(-1)])

    return model, loss


def weighted_cross_entropy(logits, targets, alpha):
    ce = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return (ce * (1 + alpha * (logits.argmax(-1) - targets).abs())).mean()


def sequences(run):
    options, data = run["model"], run["data"]
    values, context = data.get("values", 256), data.get("context", 8)
    sizes = {key: options[key] for key in ("d_model", "heads", "layers", "feed_forward")}
    model = Sequences(**sizes, learned=options["embedding"] == "learned", values=values, context=context)
    tokens = torch.randint(0, values, (8, run["train"]["batch"], context + 1))
    return model, lambda i: weighted_cross_entropy(model(tokens[i % 8, :, :-1]), tokens[i % 8, :, 1:], run["loss"]["alpha"])


def mechanism(run):
    import mechanism_models

    options, batch, latents = run["model"], run["train"]["batch"], run["data"]["latents"]
    sizes = {key: options[key] for key in ("layers", "heads", "types", "dropout", "features", "joint_layers")}
    model = mechanism_models.MechanismTransformer(options["d_model"], latent=latents, **sizes)
    mask = (torch.arange(8) < torch.randint(5, 9, (8, batch, 1))).float()
    data = list(zip(torch.randn(8, batch, latents), torch.randint(0, options["types"], (8, batch)), torch.randn(8, batch, 8, 2), mask))

    def loss(i):
        latent, types, joints, mask = data[i % 8]
        return mechanism_models.loss_of(model(latent, types, joints), joints, mask, run["loss"]["coordinates"])[0]

    return model, loss


def stepper(run, fused=False, compiled=False):
    """The model and the function that makes step i: with torch's fused optimiser or its default, and compiled or eager."""
    kinds = {"vectors": vectors, "integer_sequences": sequences, "mechanisms": mechanism}
    model, loss = kinds[run["data"]["kind"]](run)
    options = run["optimizer"]
    new = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options["kind"]]
    optimizer = new(model.parameters(), options["learning_rate"], weight_decay=options["weight_decay"], fused=fused)
    if compiled:
        model.compile()

    def step(i):
        optimizer.zero_grad()
        loss(i).backward()
        if options["clip_norm"]:
            nn.utils.clip_grad_norm_(model.parameters(), options["clip_norm"])
        optimizer.step()

    return model, step
