"""Small random language models as transformers saves them, and the losses of ten steps from them in float64: kernels-tests/golden/gpt/,
llama/ and mamba2/.

    pip install torch transformers
    python3 kernels-tests/golden/make_text.py

With one argument, the program, it writes the losses of ten steps of adapters beside those models instead (adapters.json); their first
factors are those of the program (adapters.safetensors).

    python3 kernels-tests/golden/make_text.py target/release/engine

With two arguments it compares runs of any configuration instead: a folder to work in, and the program; a third names one kind of model.

    python3 kernels-tests/golden/make_text.py /tmp/parity target/release/engine llama
"""
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import unittest.mock

import numpy as np
import safetensors.torch
import torch
import transformers

BATCH, STEPS, RATE = 3, 10, 1e-2


def tokens(count, vocabulary):
    """The same numbers as in kernels-tests/text.rs."""
    return [(7 * i + i * i % 5 + i // 13) % vocabulary for i in range(count)]


def gpt(vocab_size, context, **sizes):
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=vocab_size, n_positions=context, **NO_TOKENS, **off, **sizes))


def llama(vocab_size, context, theta=10000.0, **sizes):
    rope = {"rope_type": "default", "rope_theta": theta}
    config = transformers.LlamaConfig(vocab_size=vocab_size, max_position_embeddings=context, rope_parameters=rope, **NO_TOKENS, **sizes)
    return transformers.LlamaForCausalLM(config)


def mamba2(vocab_size, context, **sizes):
    sizes["num_heads"] = sizes.get("expand", 2) * sizes["hidden_size"] // sizes["head_dim"]
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(vocab_size=vocab_size, n_groups=1, **NO_TOKENS, **sizes))


NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
MAKE = {"gpt": gpt, "llama": llama, "mamba2": mamba2}

# Models of the golden folders: vocabulary 11, context 6, two layers.
GOLDEN = {
    "gpt": {"n_embd": 8, "n_layer": 2, "n_head": 2},
    "llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24},
    "mamba2": {"hidden_size": 8, "num_hidden_layers": 2, "head_dim": 4, "state_size": 3, "chunk_size": 4},
}
LLAMA = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80}
MAMBA2 = {"hidden_size": 48, "num_hidden_layers": 3, "state_size": 16, "head_dim": 12, "chunk_size": 8}


def configurations():
    """Kind and options of each model that is compared; biases of a gpt may be left out by the engine alone."""
    for bias, activation in itertools.product([True, False], ["gelu_new", "gelu"]):
        yield "gpt", {"n_embd": 48, "n_layer": 3, "n_head": 4, "activation_function": activation}, bias
    for shared, tied in itertools.product([4, 2, 1], [False, True]):
        # One head of 12 features has no multiple of 8 of them: three of 16 then.
        heads = {"num_attention_heads": 3} if shared == 1 else {}
        yield "llama", {**LLAMA, **heads, "num_key_value_heads": shared, "tie_word_embeddings": tied}, True
    yield "llama", {**LLAMA, "num_key_value_heads": 2, "theta": 500.0, "rms_norm_eps": 1e-5}, True
    for tied, other in itertools.product([False, True], [{}, {"state_size": 5, "head_dim": 48, "conv_kernel": 3, "expand": 1}]):
        yield "mamba2", {**MAMBA2, **other, "tie_word_embeddings": tied}, True


def model(kind, seed, vocabulary, context, bias=True, **sizes):
    torch.manual_seed(seed)
    made = MAKE[kind](vocabulary, context, **sizes)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # As after some training: no weight is 0 or 1.
            weight.add_(torch.randn_like(weight) * 0.05)
            if name.endswith("bias") and not bias:
                weight.zero_()
    return made


@contextlib.contextmanager
def widened(kind):
    """Numbers of 64 bits stay so where transformers asks for 32, and rotary angles have them from the beginning."""
    to, to_float = torch.Tensor.to, torch.Tensor.float

    def kept(self, *args, **kwargs):
        wants = torch.float32 in args or kwargs.get("dtype") == torch.float32
        return self if self.dtype == torch.float64 and wants else to(self, *args, **kwargs)

    def rotary(self, x, position_ids):
        theta, dim = self.config.rope_parameters["rope_theta"], self.config.head_dim
        angles = position_ids.double()[..., None] * theta ** (-torch.arange(0, dim, 2).double() / dim)
        both = torch.cat([angles, angles], -1)
        return both.cos(), both.sin()

    if kind != torch.float64:
        yield
        return
    modeling = transformers.models.llama.modeling_llama
    with (
        unittest.mock.patch.object(torch.Tensor, "to", kept),
        unittest.mock.patch.object(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else to_float(self)),
        unittest.mock.patch.object(modeling.LlamaRotaryEmbedding, "forward", rotary),
    ):
        yield


def losses(made, stream, context, kind, bias=True, trained=None):
    made = made.to(kind)
    named = trained or [(name, weight) for name, weight in made.named_parameters() if bias or not name.endswith("bias")]
    groups = [
        {"params": [w for _, w in named if w.dim() > 1], "weight_decay": 0.1},
        {"params": [w for _, w in named if w.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), eps=1e-8)
    out = []
    for step in range(STEPS):
        starts = [(step * BATCH + row) * context for row in range(BATCH)]
        x = torch.tensor([stream[s:s + context] for s in starts])
        y = torch.tensor([stream[s + 1:s + context + 1] for s in starts])
        with widened(kind):
            loss = torch.nn.functional.cross_entropy(made(x, use_cache=False).logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([w for _, w in named], 1.0)
        optimizer.step()
        out.append(loss.item())
    return out


def golden():
    for kind, sizes in GOLDEN.items():
        folder = f"kernels-tests/golden/{kind}"
        made = model(kind, 1, 11, 6, **sizes)
        made.save_pretrained(folder)
        os.remove(f"{folder}/generation_config.json")
        expected = {"losses": losses(made, tokens(400, 11), 6, torch.float64)}
        with open(f"{folder}/expected.json", "w") as file:
            json.dump(expected, file, indent=1)
            file.write("\n")


# Modules of a block that share an adapter in the engine, with the name of their weights there: beginning, adapter, modules, and whether
# they are of attention.
SHARED = {
    "gpt": ("transformer.h", [(part, [part], part.startswith("attn")) for part in ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]]),
    "llama": ("model.layers", [
        ("qkv", [f"self_attn.{part}_proj" for part in "qkv"], True), ("self_attn.o_proj", ["self_attn.o_proj"], True),
        ("gate_up", ["mlp.gate_proj", "mlp.up_proj"], False), ("mlp.down_proj", ["mlp.down_proj"], False)]),
    "mamba2": ("backbone.layers", [(part, [part], False) for part in ["mixer.in_proj", "mixer.out_proj"]]),
}


def adapt(made, kind, layers, scale, first):
    """Adds adapters to modules, y + scale · B·A·x with B = 0 at first, and gives their factors."""
    factors = []
    beginning, parts = SHARED[kind]
    for block, (name, modules, attends) in itertools.product(range(2), parts):
        if layers == "attention" and not attends:
            continue
        stem = f"{beginning}.{block}."
        a = first[f"{stem}{name}.lora_A.weight"].double().requires_grad_()
        outputs = []
        for module in map(made.get_submodule, (stem + part for part in modules)):
            outputs.append(module.weight.shape[1] if kind == "gpt" else module.weight.shape[0])
        b = torch.zeros(sum(outputs), len(a), dtype=torch.float64, requires_grad=True)
        for number, part in enumerate(modules):
            rows = slice(sum(outputs[:number]), sum(outputs[:number + 1]))
            made.get_submodule(stem + part).register_forward_hook(
                lambda _, given, y, a=a, b=b, rows=rows: y + scale * (given[0] @ a.T) @ b[rows].T)
        factors += [(f"{stem}{name}.lora_A.weight", a), (f"{stem}{name}.lora_B.weight", b)]
    return factors


def golden_adapters(program):
    for kind, sizes in GOLDEN.items():
        folder = f"kernels-tests/golden/{kind}"
        expected = {}
        with tempfile.TemporaryDirectory() as work:
            made = model(kind, 1, 11, 6, **sizes)
            made.save_pretrained(f"{work}/model")
            engine(program, work, "run", tokens(400, 11), 6, made, sets=["adapt.rank=2", "adapt.layers=all"])
            begun = safetensors.torch.load_file(f"{work}/run/checkpoints/step-000000000.safetensors")
        first = {name: value for name, value in begun.items() if name.endswith("lora_A.weight") and not name.startswith("optimizer.")}
        safetensors.torch.save_file(first, f"{folder}/adapters.safetensors")
        for layers, scale in [("attention", 1.5), ("all", 1.0)][kind == "mamba2":]:
            made = model(kind, 1, 11, 6, **sizes)
            expected[layers] = losses(made, tokens(400, 11), 6, torch.float64, trained=adapt(made, kind, layers, scale, first))
        with open(f"{folder}/adapters.json", "w") as file:
            json.dump(expected, file, indent=1)
            file.write("\n")


def run_file(made, bias):
    """Run file and overrides that make the same model."""
    c = made.config
    if c.model_type == "gpt2":
        activation = {"gelu_new": "gelu_tanh"}.get(c.activation_function, c.activation_function)
        return "gpt_cpu", [f"model.d_model={c.n_embd}", f"model.heads={c.n_head}", f"model.layers={c.n_layer}",
                           f"model.activation={activation}", f"model.bias={str(bias).lower()}"]
    sets = [f"model.d_model={c.hidden_size}", f"model.layers={c.num_hidden_layers}", f"model.tied={str(c.tie_word_embeddings).lower()}"]
    if c.model_type == "llama":
        return "llama_small", sets + [
            f"model.heads={c.num_attention_heads}", f"model.kv_heads={c.num_key_value_heads}", f"model.feed_forward={c.intermediate_size}",
            f"model.rope_theta={c.rope_parameters['rope_theta']}", f"model.norm_eps={c.rms_norm_eps}", "model.dropout=0"]
    return "mamba2_small", sets + [
        f"model.mixer={{state={c.state_size},head={c.head_dim},conv={c.conv_kernel},expand={c.expand},chunk={c.chunk_size}}}"]


def engine(program, folder, run, stream, context, made, bias=True, sets=()):
    np.save(f"{folder}/stream.npy", np.array(stream, dtype=np.uint16))
    name, own = run_file(made, bias)
    sets = [*own, *sets,
        f"data.file={folder}/stream.npy", "data.tokenizer=", f"data.vocabulary={made.config.vocab_size}", f"data.context={context}",
        "data.sampling=windows", f"train.batch={BATCH}", "train.shuffle=false", "train.log_every=1", "schedule.kind=constant",
        f"optimizer.learning_rate={RATE}", "validation.every=10", "validation.patience=",
    ]
    args = [program, "train", f"data/runs/{name}.toml", "--init", f"{folder}/model", "--out", f"{folder}/{run}", "--steps", str(STEPS)]
    for key in sets:
        args += ["--set", key]
    told = subprocess.run(args, capture_output=True, text=True)
    if told.returncode != 0:
        sys.exit(f"{args}: {told.stderr}")
    lines = [json.loads(line) for line in open(f"{folder}/{run}/metrics.jsonl")]
    return [line["loss"] for line in lines if line["split"] == "train"]



def parity(folder, program, only=None):
    os.makedirs(folder, exist_ok=True)
    compared = [(*made, vocabulary, 32) for made, vocabulary in itertools.product(configurations(), [64, 97])]
    # The vocabulary of GPT-2, whose logits for 768 rows come in two chunks.
    compared.append(("gpt", {"n_embd": 16, "n_layer": 1, "n_head": 4, "activation_function": "gelu_new"}, True, 50257, 256))
    for number, (kind, sizes, bias, vocabulary, context) in enumerate(compared):
        if only not in (None, kind):
            continue
        made = model(kind, number, vocabulary, context, bias, **sizes)
        made.save_pretrained(f"{folder}/model")
        stream = tokens(40 * BATCH * context, vocabulary)
        got = engine(program, folder, f"run{number}", stream, context, made, bias)
        state = {name: weight.clone() for name, weight in made.state_dict().items()}
        double = losses(made, stream, context, torch.float64, bias)
        made.load_state_dict(state)
        single = losses(made, stream, context, torch.float32, bias)
        off = [max(abs(a - b) / b for a, b in zip(other, double)) for other in (got, single)]
        print(f"{kind}, {sizes}, bias {bias}, {vocabulary} tokens: first loss {got[0]:.6f}, tenth {got[-1]:.6f};"
              f" off PyTorch's float64: engine {off[0]:.1e}, PyTorch's float32 {off[1]:.1e}", flush=True)
    greedy = {"gpt": {"n_embd": 48, "n_layer": 3, "n_head": 4}, "llama": {**LLAMA, "num_key_value_heads": 2}, "mamba2": MAMBA2}
    for kind, sizes in greedy.items():
        if only not in (None, kind):
            continue
        # For as long as the context is.
        made = model(kind, 9, 97, 256, **sizes)
        made.save_pretrained(f"{folder}/model")
        engine(program, folder, f"greedy_{kind}", tokens(9000, 97), 256, made)
        subprocess.run([program, "export", f"{folder}/greedy_{kind}", f"{folder}/back"], check=True, capture_output=True)
        back = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/back").eval()
        want = back.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=200, do_sample=False, pad_token_id=0)[0, 3:].tolist()
        args = [program, "generate", f"{folder}/greedy_{kind}", "--prompt", "5,6,7", "--count", "200", "--json"]
        got = json.loads(subprocess.run(args, check=True, capture_output=True).stdout)["generated"]
        same = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), len(got))
        print(f"greedy, {kind}: the first {same} of {len(want)} tokens are the same, {len(set(want))} different ones")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    {1: golden, 2: golden_adapters}.get(len(sys.argv), parity)(*sys.argv[1:])
