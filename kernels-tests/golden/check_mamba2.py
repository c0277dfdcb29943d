"""Checks that the weights of a Mamba-2 layer travel both ways between the engine and `transformers`' Mamba2Mixer, outputs compared: ours into it
(`engine export`, load_state_dict strict) and its state_dict into ours (`engine train --init`), for lengths that chunks divide and do not.

    cargo build --release && pip install torch numpy safetensors transformers
    python3 kernels-tests/golden/check_mamba2.py [target/release/engine]
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

ROOT = pathlib.Path(__file__).parents[2]
ENGINE = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/engine")


def engine(*args):
    done = subprocess.run([ENGINE, *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"engine {args}: {done.stderr}"


class Model(nn.Sequential):
    """A mixer and a linear layer, as the run's stack has them."""

    def __init__(self, width, state, head, chunk, outputs):
        config = Mamba2Config(
            hidden_size=width, state_size=state, head_dim=head, num_heads=2 * width // head, n_groups=1, expand=2, conv_kernel=4, chunk_size=chunk,
            use_bias=False, use_conv_bias=True, rms_norm=True, layer_norm_epsilon=1e-5,
        )
        super().__init__(Mamba2Mixer(config, 0), nn.Linear(width, outputs))


for length, width, state, head, chunk in [(5, 16, 8, 8, 64), (64, 32, 16, 16, 16), (101, 24, 12, 16, 32), (1025, 16, 8, 8, 64)]:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        torch.manual_seed(5)
        x = torch.randn(24, length, width)
        np.savez(folder / "data.npz", x=x.numpy(), y=torch.randn(24, length, 3).numpy())
        (folder / "run.toml").write_text(f"""
[model]
kind = "stack"
layers = [{{ kind = "mamba2", state = {state}, head = {head}, expand = 2, conv = 4, groups = 1, chunk = {chunk} }}, {{ kind = "linear", out = 3 }}]
[data]
kind = "samples"
file = '{folder / "data.npz"}'
inputs = {{ x = "x" }}
targets = {{ y = "y" }}
[loss]
kind = "regression"
[train]
batch = 6
epochs = 1
""")
        engine("train", folder / "run.toml", "--out", folder / "ours")
        model = Model(width, state, head, chunk, 3).eval()
        torch.manual_seed(7)
        theirs = Model(width, state, head, chunk, 3).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_file({n: t.clone().contiguous() for n, t in theirs.state_dict().items()}, folder / "theirs.safetensors")
        still = ["--set", "optimizer.learning_rate=1e-30", "--set", "schedule.kind=constant", "--set", "schedule.min_learning_rate=0",
                 "--set", "optimizer.weight_decay=0", "--init", folder / "theirs.safetensors"]
        engine("train", folder / "run.toml", "--out", folder / "init", *still)
        apart = []
        for run, reference in ("ours", model), ("init", theirs):
            engine("export", "--run", folder / run, folder / f"{run}.safetensors")
            engine("predict", folder / run, "--data", folder / "data.npz", "--out", folder / f"{run}.npz")
            if run == "ours":
                reference.load_state_dict(load_file(folder / "ours.safetensors"))
            with torch.no_grad():
                want = reference(x).numpy()
            got = np.load(folder / f"{run}.npz")["outputs"].reshape(want.shape)
            apart.append(np.abs(got - want).max() / np.abs(want).max())
        print(f"length {length:4}, chunk {chunk:3}: ours in transformers {apart[0]:.1e}, transformers' in ours {apart[1]:.1e}")
        assert max(apart) < 5e-6
