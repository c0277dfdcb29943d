"""Writes the goldens of the mechanism transformer and of the linkage VAEs, computed in float64.

    pip install torch transformers safetensors && python3 kernels-tests/golden/make_mechanism.py
"""

import pathlib

import torch
from mechanism_models import build, compute_in_the_models_type, ConvVae, DenseVae, loss_of, optimizer_of, PHASES, step, used, vae_loss
from safetensors.torch import save_file

D, HEADS, LAYERS, LATENT, BATCH, STEPS = 32, 4, 2, 50, 6, 10
NAMES = [f"mechanism_phase{phase}" for phase in ("1", "1b", "3", "6a", "6b", "7", "8")]


def save(name, model, parameters, tensors, losses):
    path = pathlib.Path(__file__).parent / f"{name}.safetensors"
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, path)
    count = sum(p.numel() for _, p in parameters)
    print(f"{name:24}{path.stat().st_size:>8} bytes {count:>8} weights, losses {losses[0]:.6f} … {losses[-1]:.6f}")


def disturb(model):
    """Some weights start as zeros or ones; different ones make a stricter test."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def weights_of(parameters):
    return {f"weights.{n}": p.detach().clone() for n, p in parameters}


def gradients_of(parameters):
    return {f"gradients.{n}": p.grad.float().clone() for n, p in parameters}


def make(name):
    torch.manual_seed(2026)
    model = disturb(build(name, d=D, layers=LAYERS, heads=HEADS, latent=LATENT, dropout=0.0))
    tensors = weights_of(used(model)) | {n: b.clone() for n, b in model.named_buffers() if n == "joint_features.B"}
    latents, types = torch.randn(STEPS, BATCH, LATENT), torch.randint(0, 17, (STEPS, BATCH))
    joints = torch.randn(STEPS, BATCH, 8, 2)
    mask = (torch.arange(8) < torch.randint(5, 9, (STEPS, BATCH, 1))).float()
    model = model.double()
    outputs = model(latents[0].double(), types[0], joints[0].double())
    assert outputs.dtype == torch.float64
    loss_of(outputs, joints[0].double(), mask[0].double(), PHASES[name]["loss"])[0].backward()
    tensors |= gradients_of(used(model))
    tensors |= {"latents": latents, "types": types.int(), "joints": joints, "mask": mask, "outputs": outputs.float()}
    optimizer = optimizer_of(name, model)
    batches = zip(latents.double(), types, joints.double(), mask.double())
    save(name, model, used(model), tensors, [step(name, model, optimizer, *batch) for batch in batches])


def make_vae(name, new, batch, pixels, latent):
    torch.manual_seed(2026)
    model = disturb(new())
    tensors = weights_of(model.named_parameters())
    images = torch.rand(STEPS, batch, pixels)
    model, noise = model.double(), torch.zeros(batch, latent, dtype=torch.float64)
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-3), []
    for i, x in enumerate(images.double()):
        optimizer.zero_grad()
        reconstruction, mu, logvar = model(x, noise)
        loss = vae_loss(x, reconstruction, mu, logvar)
        loss.backward()
        if i == 0:
            tensors |= gradients_of(model.named_parameters()) | {"images": images, "outputs": reconstruction.float()}
        optimizer.step()
        losses.append(loss.item())
    save(name, model, list(model.named_parameters()), tensors, losses)


torch.set_num_threads(1)
compute_in_the_models_type()
for name in NAMES:
    make(name)
make_vae("linkage_vae", lambda: DenseVae(36, 16, 3), 5, 36, 3)
make_vae("linkage_vae_conv", lambda: ConvVae((3, 4, 5), (5, 3, 3), 16, 3), 4, 256, 3)
