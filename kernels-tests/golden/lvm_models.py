"""The eleven next-vector models in PyTorch, their loss terms and their recipes: (B, T, D) in, the raw output (B, D) out.

    pip install torch numpy && python3 kernels-tests/golden/lvm_models.py    # prints and checks the parameter counts
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def head(h, dim):
    return nn.Sequential(nn.Linear(h, h), nn.GELU(), nn.LayerNorm(h), nn.Linear(h, dim))


def relu_head(h, dim, dropout):
    return nn.Sequential(nn.Linear(h, h), nn.ReLU(), nn.Dropout(dropout), nn.Linear(h, dim))


def sinusoids(length, width):
    angles = torch.arange(length).double()[:, None] * torch.exp(torch.arange(0, width, 2).double() * (-math.log(10000) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).reshape(length, width).float()


def causal(x):
    return torch.triu(torch.full((x.shape[1], x.shape[1]), -math.inf, dtype=x.dtype, device=x.device), 1)


class Mlp(nn.Module):
    def __init__(self, dim=768, context=5, hidden=1024, dropout=0.1, input_dropout=0.0, residual=False):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(context * dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
        self.input_dropout, self.residual = nn.Dropout(input_dropout), residual

    def forward(self, x):
        y = self.network(self.input_dropout(x).flatten(1))
        return x.mean(1) + y if self.residual else y


class Transformer(nn.Module):
    def __init__(self, dim=768, context=5, width=512, heads=8, layers=4, feed_forward=2048, dropout=0.1):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.register_buffer("positions", sinusoids(context, width), persistent=False)
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = relu_head(width, dim, dropout)

    def forward(self, x):
        return self.head(self.transformer(self.input_proj(x) + self.positions)[:, -1])


class TransformerInfonce(nn.Module):
    def __init__(self, dim=768, context=5, width=512, heads=8, layers=4, feed_forward=2048, dropout=0.1):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.register_buffer("positions", sinusoids(context, width), persistent=False)
        layer = nn.TransformerDecoderLayer(width, heads, feed_forward, dropout, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, layers)
        self.head = head(width, dim)

    def forward(self, x):
        x = self.input_proj(x) + self.positions
        return self.head(self.transformer_decoder(x, x, tgt_mask=causal(x), memory_mask=causal(x))[:, -1])


class Lstm(nn.Module):
    def __init__(self, dim=768, context=5, hidden=1024, layers=2, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True, dropout=dropout)
        self.output_proj = relu_head(hidden, dim, dropout)

    def forward(self, x):
        return self.output_proj(self.lstm(x)[0][:, -1])


class LstmSmall(nn.Module):
    def __init__(self, dim=768, context=5, hidden=512, layers=2, dropout=0.2):
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True, dropout=dropout)
        self.head = head(hidden, dim)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class LstmUnified(nn.Module):
    def __init__(self, dim=768, context=5, hidden=512, layers=2, dropout=0.0):
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True, dropout=dropout)
        self.output_proj = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.output_proj(self.lstm(x)[0][:, -1])


class PreNormGru(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mamba = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + self.mamba(self.norm(x))[0]


class PostNormGru(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(x + self.gru(x)[0])


class Gru(nn.Module):
    def __init__(self, dim=768, context=5, width=512, layers=4):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(PreNormGru(width) for _ in range(layers)))
        self.head = head(width, dim)

    def forward(self, x):
        return self.head(self.blocks(self.input_proj(x))[:, -1])


class GruUnified(nn.Module):
    def __init__(self, dim=768, context=5, width=512, layers=4):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(PostNormGru(width) for _ in range(layers)))
        self.output_proj = nn.Linear(width, dim)

    def forward(self, x):
        return self.output_proj(self.blocks(self.input_proj(x))[:, -1])


class Mamba2(nn.Module):
    """The mixer of Mamba-2 by its recurrence, position after position, with the names and initial values of `mamba_ssm`."""

    def __init__(self, width, layers=1, state=64, head=64, expand=2, conv=4, groups=1):
        super().__init__()
        self.inner, self.head, self.state, self.groups = expand * width, head, state, groups
        self.heads, channels = self.inner // head, self.inner + 2 * groups * state
        self.in_proj = nn.Linear(width, self.inner + channels + self.heads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, conv, groups=channels, padding=conv - 1)
        d = torch.exp(torch.rand(self.heads) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3)).clamp(min=1e-4)
        self.dt_bias = nn.Parameter(d + torch.log(-torch.expm1(-d)))
        self.A_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, width, bias=False)
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(layers)

    def forward(self, u):
        batch, length, _ = u.shape
        z, xbc, d = self.in_proj(u).split([self.inner, self.conv1d.in_channels, self.heads], -1)
        xbc = F.silu(self.conv1d(xbc.transpose(1, 2))[..., :length].transpose(1, 2))
        x, b, c = xbc.split([self.inner, self.groups * self.state, self.groups * self.state], -1)
        x = x.unflatten(-1, (self.heads, self.head))
        b, c = (v.unflatten(-1, (self.groups, self.state)).repeat_interleave(self.heads // self.groups, 2) for v in (b, c))
        delta = F.softplus(d + self.dt_bias)
        decay = torch.exp(-torch.exp(self.A_log) * delta)
        s, outputs = u.new_zeros(batch, self.heads, self.head, self.state), []
        for t in range(length):
            s = decay[:, t, :, None, None] * s + (delta[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None]
            outputs.append((s * c[:, t, :, None]).sum(-1) + self.D[:, None] * x[:, t])
        g = torch.stack(outputs, 1).flatten(2) * F.silu(z)
        groups = g.unflatten(-1, (self.groups, -1))
        g = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + 1e-5)).flatten(-2)
        return self.out_proj(self.norm.weight * g)


class MambaBlock(nn.Module):
    def __init__(self, width, layers, **sizes):
        super().__init__()
        self.norm, self.mixer = nn.RMSNorm(width, 1e-5), Mamba2(width, layers, **sizes)

    def forward(self, x):
        return x + self.mixer(self.norm(x))


class Mamba(nn.Module):
    def __init__(self, dim=768, context=5, width=512, layers=4, **sizes):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(MambaBlock(width, layers, **sizes) for _ in range(layers)))
        self.head = head(width, dim)

    def forward(self, x):
        return self.head(self.blocks(self.input_proj(x))[:, -1])


class MambaUnified(nn.Module):
    def __init__(self, dim=768, context=5, width=512, layers=4, **sizes):
        super().__init__()
        self.input_proj = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(MambaBlock(width, layers, **sizes) for _ in range(layers)))
        self.output_proj = nn.Linear(width, dim)

    def forward(self, x):
        return self.output_proj(self.blocks(self.input_proj(x))[:, -1])


class Amn(nn.Module):
    def __init__(self, dim=768, context=5, width=256, hidden=512):
        super().__init__()
        self.context_encoder, self.query_encoder = nn.Linear(dim, width), nn.Linear(dim, width)
        first = [nn.Linear(2 * dim, hidden), nn.GELU(), nn.LayerNorm(hidden)]
        second = [nn.Linear(hidden, hidden // 2), nn.GELU(), nn.LayerNorm(hidden // 2)]
        self.residual_net = nn.Sequential(*first, *second, nn.Linear(hidden // 2, dim))

    def forward(self, x):
        b = x.mean(1)
        keys = self.context_encoder(x)
        a = (keys @ self.query_encoder(b)[:, :, None] / math.sqrt(keys.shape[-1])).softmax(1)
        return b + self.residual_net(torch.cat([b, (a * x).sum(1)], -1))


MODELS = {
    "lvm_mlp": Mlp,
    "lvm_transformer": Transformer,
    "lvm_lstm": Lstm,
    "lvm_transformer_infonce": TransformerInfonce,
    "lvm_lstm_small": LstmSmall,
    "lvm_gru": Gru,
    "lvm_amn": Amn,
    "lvm_lstm_unified": LstmUnified,
    "lvm_gru_unified": GruUnified,
    "lvm_mamba2": Mamba,
    "lvm_mamba2_unified": MambaUnified,
}

PARAMETERS = {
    "lvm_mlp": 4_720_384,
    "lvm_transformer": 13_659_904,
    "lvm_lstm": 17_581_824,
    "lvm_transformer_infonce": 17_867_520,
    "lvm_lstm_small": 5_384_448,
    "lvm_gru": 7_359_232,
    "lvm_amn": 1_510_912,
    "lvm_lstm_unified": 5_120_768,
    "lvm_gru_unified": 7_095_552,
    "lvm_mamba2": 7_667_136,
    "lvm_mamba2_unified": 7_403_456,
}


def build(name, dim=768, context=5, **sizes):
    return MODELS[name](dim, context, **sizes)


def mse(r, t, on="raw"):
    return F.mse_loss({"raw": r, "normalized": F.normalize(r)}[on], t)


def cosine(r, t):
    return (1 - (F.normalize(r) * F.normalize(t)).sum(-1)).mean()


def infonce(r, t, temperature=0.07):
    logits, diagonal = F.normalize(r) @ F.normalize(t).T / temperature, torch.arange(len(r), device=r.device)
    return F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)


def moments_apart(x, mean, std):
    if len(x) < 2:
        raise ValueError("the standard deviation over a batch needs two samples")
    return ((x.mean(0) - mean) ** 2).mean() + ((x.std(0) - std) ** 2).mean()


def moment(r, t):
    return moments_apart(r, t.mean(0), t.std(0))


def stat(r, train_mean, train_std):
    return moments_apart(F.normalize(r), train_mean, train_std)


def variance(r):
    if len(r) < 2:
        raise ValueError("the standard deviation over a batch needs two samples")
    return F.relu(1 - F.normalize(r).std(0)).mean()


def kernel(x, y, sigma):
    return torch.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / (2 * sigma**2)).mean()


def mmd(r, anchors, sigma):
    p = F.normalize(r)
    return kernel(p, p, sigma) + kernel(anchors, anchors, sigma) - 2 * kernel(p, anchors, sigma)


def cycle(r, nearest):
    return cosine(r, nearest.detach())


def loss_terms(r, t, terms, anchors=None, sigma=None, train_stats=None, nearest=None):
    """Each term's own value, before its weight; `terms` as in RECIPES."""
    values = {}
    for name, options in terms.items():
        options = {k: v for k, v in options.items() if k != "weight"}
        match name:
            case "mse" | "cosine" | "infonce" | "moment":
                values[name] = globals()[name](r, t, **options)
            case "variance":
                values[name] = variance(r)
            case "mmd":
                values[name] = mmd(r, anchors, sigma)
            case "stat":
                values[name] = stat(r, *train_stats)
            case "cycle":
                values[name] = cycle(r, nearest)
            case _:
                raise ValueError(f"no loss term is named {name}")
    return values


def loss_of(r, t, terms, **extras):
    values = loss_terms(r, t, terms, **extras)
    return sum(options["weight"] * values[name] for name, options in terms.items())


def accuracy(r, t):
    """The metric `cosine` of each sample."""
    unit = [x / (x.norm(dim=-1, keepdim=True) + 1e-8) for x in (r, t)]
    return (unit[0] * unit[1]).sum(-1)


COSINE = {"cosine": {"weight": 1.0}}
INFONCE = {"infonce": {"weight": 1.0, "temperature": 0.07}}
MSE = {"mse": {"weight": 1.0, "on": "raw"}}
COMPOSITE = {**INFONCE, "moment": {"weight": 0.01}, "variance": {"weight": 0.005}, "mse": {"weight": 0.05, "on": "normalized"}}
# run: optimizer, learning rate, schedule, batch, clip, loss
RECIPES = {
    "lvm_mlp": ("adam", 1e-3, "constant", 128, None, COSINE),
    "lvm_transformer": ("adam", 1e-3, "constant", 64, None, COSINE),
    "lvm_lstm": ("adam", 1e-3, "constant", 128, None, COSINE),
    "lvm_transformer_infonce": ("adam", 1e-4, "plateau", 64, 1.0, INFONCE),
    "lvm_lstm_small": ("adam", 1e-3, "plateau", 32, 1.0, COMPOSITE),
    "lvm_gru": ("adamw", 5e-4, "plateau", 32, 1.0, COMPOSITE),
    "lvm_amn": ("adamw", 5e-4, "plateau", 32, 1.0, MSE),
    "lvm_lstm_unified": ("adamw", 5e-4, "plateau", 32, 1.0, MSE),
    "lvm_gru_unified": ("adamw", 5e-4, "plateau", 32, 1.0, MSE),
    "lvm_mamba2": ("adamw", 5e-4, "plateau", 32, 1.0, COMPOSITE),
    "lvm_mamba2_unified": ("adamw", 5e-4, "plateau", 32, 1.0, MSE),
}


def optimizer_of(name, model):
    kind, rate = RECIPES[name][:2]
    if kind == "adam":
        return torch.optim.Adam(model.parameters(), rate)
    # The reference of Mamba-2 lets neither the weights of norms nor A_log, dt_bias and D decay.
    still = ("A_log", "dt_bias", ".D") if "mamba2" in name else ()
    rests = lambda n, p: bool(still) and (n.endswith(still) or n.endswith(".weight") and p.dim() == 1)
    parts = {decays: [p for n, p in model.named_parameters() if rests(n, p) != decays] for decays in (True, False)}
    return torch.optim.AdamW([{"params": parts[True], "weight_decay": 0.01}, {"params": parts[False], "weight_decay": 0.0}], rate)


def step(name, model, optimizer, context, target):
    """One training step by the run's recipe; the loss before it."""
    clip, terms = RECIPES[name][4:]
    optimizer.zero_grad()
    loss = loss_of(model(context), target, terms)
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()


if __name__ == "__main__":
    for name in MODELS:
        model = build(name).eval()
        count = sum(p.numel() for p in model.parameters())
        assert count == PARAMETERS[name], f"{name}: {count} parameters, {PARAMETERS[name]} in the specification"
        assert model(torch.randn(2, 5, 768)).shape == (2, 768)
        print(f"{name:24}{count:>12,}")
