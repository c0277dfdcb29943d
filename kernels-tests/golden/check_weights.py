"""Checks that weights travel both ways between the engine and torch.nn, for each of the nine next-vector models:
ours into PyTorch (`engine export`, load_state_dict strict) and a state_dict into ours (`engine train --init`), outputs compared.

    cargo build --release && pip install torch numpy safetensors && python3 kernels-tests/golden/check_weights.py [target/release/engine]
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from lvm_models import MODELS, build
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).parents[2]
ENGINE = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/engine")
DATA = ROOT / "data/samples/wikitext_minilm_small.npz"


def engine(*args):
    done = subprocess.run([ENGINE, *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"engine {args}: {done.stderr}"


def difference(name, weights, predictions):
    """Largest difference of a unit prediction on the validation set."""
    model = build(name, dim=384).eval()
    model.load_state_dict(load_file(weights))
    contexts = torch.from_numpy(np.load(DATA)["val_context_sequences"].astype(np.float32))
    with torch.no_grad():
        theirs = F.normalize(model(contexts), dim=-1).numpy()
    return np.abs(theirs - np.load(predictions)["val_predictions"]).max()


for name in MODELS:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        common = ["--set", f"data.file={DATA}", "--steps", 1]
        engine("train", f"data/runs/{name}.toml", *common, "--out", folder / "ours")
        engine("export", "--run", folder / "ours", folder / "ours.safetensors")
        engine("eval", "--run", folder / "ours", "--predictions", folder / "ours.npz")
        out = difference(name, folder / "ours.safetensors", folder / "ours.npz")

        torch.manual_seed(7)
        theirs = {n: t.clone().contiguous() for n, t in build(name, dim=384).state_dict().items()}
        save_file(theirs, folder / "theirs.safetensors")
        # A rate of next to nothing leaves the weights as they came.
        still = ["--set", "optimizer.learning_rate=1e-30", "--set", "optimizer.weight_decay=0", "--init", folder / "theirs.safetensors"]
        engine("train", f"data/runs/{name}.toml", *common, *still, "--out", folder / "init")
        engine("eval", "--run", folder / "init", "--predictions", folder / "init.npz")
        back = difference(name, folder / "theirs.safetensors", folder / "init.npz")
        print(f"{name:26} ours in PyTorch {out:.1e}, PyTorch's in ours {back:.1e}")
        assert out < 2e-6 and back < 2e-6
