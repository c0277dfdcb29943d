"""A small random GPT2LMHeadModel as transformers saves it, and the losses of ten steps from it in float64: kernels-tests/golden/gpt/.

    pip install torch transformers
    python3 kernels-tests/golden/make_gpt.py

With two arguments it compares runs of any configuration instead: a folder to work in, and the program.

    python3 kernels-tests/golden/make_gpt.py /tmp/parity target/release/engine
"""
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import torch
import transformers

BATCH, STEPS, RATE = 3, 10, 1e-2


def tokens(count, vocabulary):
    """The same numbers as in kernels-tests/text.rs."""
    return [(7 * i + i * i % 5 + i // 13) % vocabulary for i in range(count)]


def model(seed, bias=True, **sizes):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, **sizes)
    made = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # As after some training: no weight is 0 or 1.
            weight.add_(torch.randn_like(weight) * 0.05)
            if name.endswith("bias") and not bias:
                weight.zero_()
    return made


def losses(made, stream, kind, bias=True):
    made = made.to(kind)
    named = [(name, weight) for name, weight in made.named_parameters() if bias or not name.endswith("bias")]
    groups = [
        {"params": [w for _, w in named if w.dim() > 1], "weight_decay": 0.1},
        {"params": [w for _, w in named if w.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), eps=1e-8)
    context, out = made.config.n_positions, []
    for step in range(STEPS):
        starts = [(step * BATCH + row) * context for row in range(BATCH)]
        x = torch.tensor([stream[s:s + context] for s in starts])
        y = torch.tensor([stream[s + 1:s + context + 1] for s in starts])
        loss = torch.nn.functional.cross_entropy(made(x).logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([w for _, w in named], 1.0)
        optimizer.step()
        out.append(loss.item())
    return out


def golden():
    folder = "kernels-tests/golden/gpt"
    made = model(1, vocab_size=11, n_positions=6, n_embd=8, n_layer=2, n_head=2)
    made.save_pretrained(folder)
    os.remove(f"{folder}/generation_config.json")
    expected = {"losses": losses(made, tokens(400, 11), torch.float64)}
    with open(f"{folder}/expected.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")


def engine(program, folder, run, stream, made, bias, activation):
    c = made.config
    np.save(f"{folder}/stream.npy", np.array(stream, dtype=np.uint16))
    sets = [
        f"data.file={folder}/stream.npy", "data.tokenizer=", f"data.vocabulary={c.vocab_size}", f"data.context={c.n_positions}",
        "data.sampling=windows", f"model.d_model={c.n_embd}", f"model.heads={c.n_head}", f"model.layers={c.n_layer}",
        f"model.activation={activation}", f"model.bias={str(bias).lower()}", f"train.batch={BATCH}", "train.shuffle=false",
        "train.log_every=1", "schedule.kind=constant", f"optimizer.learning_rate={RATE}", "validation.every=10",
    ]
    args = [program, "train", "data/runs/gpt_cpu.toml", "--init", f"{folder}/model", "--out", f"{folder}/{run}", "--steps", str(STEPS)]
    for key in sets:
        args += ["--set", key]
    subprocess.run(args, check=True, capture_output=True)
    lines = [json.loads(line) for line in open(f"{folder}/{run}/metrics.jsonl")]
    return [line["loss"] for line in lines if line["split"] == "train"]


def parity(folder, program):
    kinds = list(itertools.product([True, False], [("gelu_new", "gelu_tanh"), ("gelu", "gelu")], [64, 97]))
    # The vocabulary of GPT-2, whose logits for 768 rows come in two chunks.
    kinds.append((True, ("gelu_new", "gelu_tanh"), 50257))
    os.makedirs(folder, exist_ok=True)
    for number, (bias, (theirs, ours), vocabulary) in enumerate(kinds):
        sizes = dict(n_positions=32, n_embd=48, n_layer=3) if vocabulary < 1000 else dict(n_positions=256, n_embd=16, n_layer=1)
        made = model(number, bias, vocab_size=vocabulary, n_head=4, activation_function=theirs, **sizes)
        made.save_pretrained(f"{folder}/model")
        stream = tokens(2000 if vocabulary < 1000 else 20000, vocabulary)
        got = engine(program, folder, f"run{number}", stream, made, bias, ours)
        state = {name: weight.clone() for name, weight in made.state_dict().items()}
        double = losses(made, stream, torch.float64, bias)
        made.load_state_dict(state)
        single = losses(made, stream, torch.float32, bias)
        off = [max(abs(a - b) / b for a, b in zip(other, double)) for other in (got, single)]
        print(f"bias {bias}, {theirs}, {vocabulary} tokens: first loss {got[0]:.6f}, tenth {got[-1]:.6f};"
              f" off PyTorch's float64: engine {off[0]:.1e}, PyTorch's float32 {off[1]:.1e}", flush=True)
    # Greedy, for as long as the context is.
    made = model(9, vocab_size=97, n_positions=256, n_embd=48, n_layer=3, n_head=4)
    made.save_pretrained(f"{folder}/model")
    engine(program, folder, "greedy", tokens(9000, 97), made, True, "gelu_tanh")
    subprocess.run([program, "export", f"{folder}/greedy", f"{folder}/back"], check=True, capture_output=True)
    back = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/back").eval()
    want = back.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=200, do_sample=False, pad_token_id=0)[0, 3:].tolist()
    told = subprocess.run([program, "generate", f"{folder}/greedy", "--prompt", "5,6,7", "--count", "200", "--json"], check=True, capture_output=True)
    got = json.loads(told.stdout)["generated"]
    same = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(got))
    print(f"greedy: the first {same} of {len(want)} tokens are the same, {len(set(want))} different ones")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    golden() if len(sys.argv) == 1 else parity(*sys.argv[1:])
