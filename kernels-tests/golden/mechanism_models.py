"""The mechanism transformer in PyTorch, its phases and its recipe, and the two VAEs of the coupler curves.

    pip install torch transformers && python3 kernels-tests/golden/mechanism_models.py    # prints and checks the parameter counts
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama import modeling_llama


def compute_in_the_models_type():
    """The library computes RMSNorm and RoPE's angles in float32 whatever the model's type is; after this they are in the model's own."""

    def norm(self, x):
        return self.weight * x * (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    def rotations(self, x, position_ids):
        dim = self.config.head_dim
        frequencies = self.config.rope_parameters["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = (position_ids[..., None].double() * frequencies).repeat(1, 1, 2)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    modeling_llama.LlamaRMSNorm.forward = norm
    modeling_llama.LlamaRotaryEmbedding.forward = rotations


def features(kind, xy, count=None, pi=False, B=None):
    """Joint features of (…, 2), computed in float64 with the angles reduced exactly, in the type of `xy`."""
    v = xy.double()
    match kind:
        case "raw":
            return xy
        case "gaussian":
            turns = v @ B.double()
            angles = 2 * math.pi * (turns - turns.round())
            return torch.cat([angles.sin(), angles.cos()], -1).to(xy.dtype)
        case "powers_of_two":
            halves = v[..., None] * 2.0 ** torch.arange(count, dtype=torch.float64, device=v.device)
            pi = True
        case "linear":
            halves = v[..., None] * torch.arange(1, count + 1, dtype=torch.float64, device=v.device)
        case _:
            raise ValueError(f"no joint features are named {kind}")
    # f·v is exact for f32 coordinates, and so is its rest modulo 2.
    angles = math.pi * (halves - 2 * (halves / 2).round()) if pi else halves
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2).to(xy.dtype)


class JointFeatures(nn.Module):
    def __init__(self, kind, count=None, pi=False, sigma=None):
        super().__init__()
        self.kind, self.options = kind, {} if kind == "gaussian" else {"count": count, "pi": pi}
        self.width = 2 if kind == "raw" else 2 * count if kind == "gaussian" else 4 * count
        if kind == "gaussian":
            self.register_buffer("B", sigma * torch.randn(2, count))

    def forward(self, xy):
        return features(self.kind, xy, **self.options, **dict(self.named_buffers()))


class MechanismTransformer(nn.Module):
    def __init__(self, d, layers, heads=8, latent=50, types=17, dropout=0.1, features={"kind": "raw"}, joint_layers=2):
        super().__init__()
        self.latent_embedding = nn.Sequential(nn.Linear(latent, d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d, d))
        self.latent_token = nn.Parameter(torch.zeros(d))
        self.latent_norm = nn.LayerNorm(d)
        self.type_embedding = nn.Embedding(types, d)
        self.sos = nn.Parameter(torch.randn(d))
        self.position_embedding = nn.Embedding(10, d)
        self.joint_features = JointFeatures(**features)
        first = nn.Linear(self.joint_features.width, d)
        self.joint_embedding = first if joint_layers == 1 else nn.Sequential(first, nn.ReLU(), nn.Linear(d, d))
        config = LlamaConfig(
            vocab_size=1,
            hidden_size=d,
            intermediate_size=4 * d,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            attention_dropout=dropout,
            attention_bias=False,
            mlp_bias=False,
            max_position_embeddings=16,
            initializer_range=0.02,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="sdpa",
        )
        self.model = LlamaModel(config)
        self.head = nn.Linear(d, 3)

    def forward(self, latents, types, joints):
        """(B, 50), (B), normalised (B, n, 2) to x, y and the stop logit of the n joints; the last joint itself influences nothing."""
        b, n, _ = joints.shape
        latent = self.latent_norm(self.latent_embedding(latents) + self.latent_token)
        sos = self.sos.expand(b, 1, -1)
        rest = torch.cat([self.type_embedding(types)[:, None], sos, self.joint_embedding(self.joint_features(joints[:, :-1]))], 1)
        x = torch.cat([latent[:, None], rest + self.position_embedding.weight[: n + 1]], 1)
        return self.head(self.model(inputs_embeds=x, use_cache=False).last_hidden_state[:, 2:])


def loss_of(outputs, joints, mask, kind="mse", delta=1.0, stop_weight=1.0):
    """Total, coordinate loss, stop loss; the means are over the valid joints."""
    mask = mask.to(outputs.dtype)
    xy, logit = outputs[..., :2], outputs[..., 2]
    match kind:
        case "mse":
            each = F.mse_loss(xy, joints, reduction="none")
        case "huber":
            each = F.huber_loss(xy, joints, reduction="none", delta=delta)
        case _:
            raise ValueError(f"no coordinate loss is named {kind}")
    last = mask * (1 - F.pad(mask[:, 1:], (0, 1)))
    coordinate = (each.mean(-1) * mask).sum() / mask.sum()
    stop = (F.binary_cross_entropy_with_logits(logit, last, reduction="none") * mask).sum() / mask.sum()
    return coordinate + stop_weight * stop, coordinate, stop


def phase(features, loss, weight_decay, d=512, layers=6, joint_layers=2, normalise=True):
    return dict(features=features, loss=loss, weight_decay=weight_decay, d=d, layers=layers, joint_layers=joint_layers, normalise=normalise)


RAW, POWERS_OF_TWO = {"kind": "raw"}, {"kind": "powers_of_two", "count": 32}
GAUSSIAN, LINEAR = {"kind": "gaussian", "count": 256}, {"kind": "linear"}

PHASES = {
    "mechanism_phase1": phase(RAW, "mse", 1e-4, joint_layers=1, normalise=False),
    "mechanism_phase1b": phase(RAW, "mse", 1e-4),
    "mechanism_phase2": phase(RAW, "mse", 0.01),
    "mechanism_phase3": phase(POWERS_OF_TWO, "mse", 0.01, d=256, layers=4),
    "mechanism_phase4": phase(POWERS_OF_TWO, "mse", 0.01, d=256, layers=4),
    "mechanism_phase5": phase(POWERS_OF_TWO, "mse", 1e-3),
    "mechanism_phase6a": phase({**GAUSSIAN, "sigma": 1.0}, "mse", 1e-3),
    "mechanism_phase6b": phase({**GAUSSIAN, "sigma": 0.1}, "huber", 1e-3),
    "mechanism_phase7": phase({**LINEAR, "count": 8, "pi": True}, "huber", 1e-3),
    "mechanism_phase8": phase({**LINEAR, "count": 32, "pi": False}, "huber", 1e-3),
}

PARAMETERS = {
    "mechanism_phase1": 25_480_707,
    "mechanism_phase1b": 25_743_363,
    "mechanism_phase2": 25_743_363,
    "mechanism_phase3": 4_383_235,
    "mechanism_phase4": 4_383_235,
    "mechanism_phase5": 25_807_875,
    "mechanism_phase6a": 26_004_483,
    "mechanism_phase6b": 26_004_483,
    "mechanism_phase7": 25_758_723,
    "mechanism_phase8": 25_807_875,
}


def build(name, **overrides):
    settings = {k: PHASES[name][k] for k in ("features", "d", "layers", "joint_layers")}
    return MechanismTransformer(**{**settings, **overrides})


def used(model):
    """Names and parameters, without the row that no token reads."""
    return [(n, p) for n, p in model.named_parameters() if n != "model.embed_tokens.weight"]


def optimizer_of(name, model):
    return torch.optim.AdamW([p for _, p in used(model)], 5e-4, weight_decay=PHASES[name]["weight_decay"])


def step(name, model, optimizer, latents, types, joints, mask):
    """One training step by the phase's recipe; the loss before it."""
    optimizer.zero_grad()
    loss = loss_of(model(latents, types, joints), joints, mask, PHASES[name]["loss"])[0]
    loss.backward()
    nn.utils.clip_grad_norm_([p for _, p in used(model)], 1.0)
    optimizer.step()
    return loss.item()


class DenseVae(nn.Module):
    def __init__(self, pixels=4096, hidden=512, latent=50):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def forward(self, x, noise):
        mu, logvar = self.encoder(x).split(self.latent, -1)
        return self.decoder(mu + noise * (0.5 * logvar).exp()).sigmoid(), mu, logvar


class ConvVae(nn.Module):
    """Images (B, size²) in and out."""

    def __init__(self, channels=(32, 64, 128), kernels=(11, 5, 3), size=64, latent=50):
        super().__init__()
        self.size, self.narrow = size, (channels[-1], size >> len(channels), size >> len(channels))
        pairs = list(zip((1, *channels), channels))
        stages = [[nn.Conv2d(i, o, k, padding="same"), nn.ReLU(), nn.MaxPool2d(2)] for (i, o), k in zip(pairs, kernels)]
        self.encoder = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.latent = nn.Linear(math.prod(self.narrow), 2 * latent)
        self.expand = nn.Linear(latent, math.prod(self.narrow))
        stages = [[nn.Upsample(scale_factor=2), nn.Conv2d(o, i, 3, padding="same"), nn.ReLU()] for i, o in reversed(pairs)]
        self.decoder = nn.Sequential(*[layer for stage in stages for layer in stage][:-1])

    def forward(self, x, noise):
        mu, logvar = self.latent(self.encoder(x.unflatten(-1, (1, self.size, self.size))).flatten(1)).chunk(2, -1)
        wide = self.expand(mu + noise * (0.5 * logvar).exp()).relu().unflatten(-1, self.narrow)
        return self.decoder(wide).sigmoid().flatten(1), mu, logvar


def vae_loss(x, reconstruction, mu, logvar, weight=1.0):
    divergence = -0.5 * (1 + logvar - mu**2 - logvar.exp())
    return (((reconstruction - x) ** 2).sum(-1) + weight * divergence.mean(-1)).mean()


if __name__ == "__main__":
    size = lambda parameters: sum(p.numel() for p in parameters)
    for name in PHASES:
        model = build(name).eval()
        count, without = size(model.parameters()), size(p for _, p in used(model))
        assert count == PARAMETERS[name], f"{name}: {count} parameters, {PARAMETERS[name]} in the specification"
        assert model(torch.randn(2, 50), torch.tensor([0, 16]), torch.randn(2, 8, 2)).shape == (2, 8, 3)
        print(f"{name:24}{count:>12,}{without:>12,} without the unused row")
    for name, model in [("linkage_vae", DenseVae()), ("linkage_vae_conv", ConvVae())]:
        reconstruction, mu, logvar = model(torch.rand(2, 4096), torch.randn(2, 50))
        assert reconstruction.shape == (2, 4096) and mu.shape == logvar.shape == (2, 50)
        print(f"{name:24}{size(model.parameters()):>12,}")
