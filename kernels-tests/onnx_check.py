#!/usr/bin/env python3
"""Runs exported models in other programs, and compares what they give with what the engine gave.

A folder has for each case NAME.onnx, NAME.py and NAME.npz, with the inputs under their names and what is expected of each output as want.NAME.
ONNX Runtime is needed; torch modules are run where torch is there. Usage: onnx_check.py FOLDER."""

import importlib.util
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

BATCHES = [1, 7, 64]
ONNX_BOUND, TORCH_BOUND = 1e-5, 1e-6


def difference(got, want):
    """Largest difference in units of the largest number that is expected."""
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    assert np.isfinite(got).all(), "not finite"
    return float(np.abs(got.astype(np.float64) - want).max() / np.abs(want).max())


def cases(folder):
    for file in sorted(folder.glob("*.npz")):
        arrays = np.load(file)
        inputs = {name: arrays[name] for name in arrays.files if not name.startswith("want.")}
        wants = {name[5:]: arrays[name] for name in arrays.files if name.startswith("want.")}
        yield file.stem, inputs, wants


def check_onnx(folder, name, inputs, wants, bound):
    path = folder / f"{name.split('@')[0]}.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {i.name: np.int64 if i.type == "tensor(int64)" else np.float32 for i in session.get_inputs()}
    assert sorted(types) == sorted(inputs), f"inputs {sorted(types)}, expected {sorted(inputs)}"
    assert sorted(o.name for o in session.get_outputs()) == sorted(wants), "outputs"
    worst = 0.0
    for batch in BATCHES:
        given = {n: v[:batch].astype(types[n]) for n, v in inputs.items()}
        for output, got in zip(session.get_outputs(), session.run(None, given)):
            worst = max(worst, difference(got, wants[output.name][:batch]))
    assert worst <= bound, f"ONNX Runtime differs by {worst:.2e}, allowed are {bound:.0e}"
    return worst


def check_parts(folder, name, inputs, wants):
    """An encoder and a decoder, one after the other, are the whole."""
    x = next(iter(inputs.values()))
    for part in ["encoder", "decoder"]:
        path = folder / f"{name}.{part}"
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert part == "encoder" or session.get_inputs()[0].name == "latents", "the decoder's input"
        x = session.run(None, {session.get_inputs()[0].name: x})[0]
    worst = difference(x, next(iter(wants.values())))
    assert worst <= ONNX_BOUND, f"the parts differ by {worst:.2e}"


def check_decoding(folder, name, inputs, wants):
    """A model that takes past keys and values: all at once, token by token, and in parts, it gives the logits of the whole sequence."""
    path = folder / f"{name}.decode"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    past = [i for i in session.get_inputs() if i.name.startswith("past_key_values.")]
    names = [o.name for o in session.get_outputs()]
    assert names[1:] == [i.name.replace("past_key_values", "present") for i in past], f"outputs {names}"
    (key, tokens), (want, logits) = *inputs.items(), *wants.items()
    assert names[0] == want, f"the first output is {names[0]}"
    length, worst = tokens.shape[1], 0.0
    for batch in BATCHES:
        for parts in [[length], [1] * length, [2, 1, length - 3]]:
            kept, at, got = {i.name: np.zeros((batch, i.shape[1], 0, i.shape[3]), np.float32) for i in past}, 0, []
            for part in parts:
                first, *present = session.run(None, {key: tokens[:batch, at : at + part].astype(np.int64), **kept})
                kept, at = dict(zip(kept, present)), at + part
                got.append(first)
            worst = max(worst, difference(np.concatenate(got, 1), logits[:batch]))
    assert worst <= ONNX_BOUND, f"decoding differs by {worst:.2e}"
    # The last cache holds as many positions as the model sees.
    try:
        session.run(None, {key: tokens[:batch, :1].astype(np.int64), **kept})
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        return worst
    raise AssertionError("a position beyond the last was computed")


def check_torch(folder, name, inputs, wants, order, bound):
    import torch

    path = folder / f"{name.split('@')[0]}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load()
    integers, names = order
    worst = 0.0
    for batch in BATCHES:
        given = [torch.from_numpy(inputs[n][:batch].astype(np.int64 if n in integers else np.float32)) for n in names[0]]
        with torch.no_grad():
            outputs = model(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for output, got in zip(names[1], outputs):
            worst = max(worst, difference(got.numpy(), wants[output][:batch]))
    assert worst <= bound, f"torch differs by {worst:.2e}, allowed are {bound:.0e}"
    return worst


def main():
    folder = pathlib.Path(sys.argv[1])
    try:
        import torch  # noqa: F401

        with_torch = True
    except ImportError:
        with_torch = False
    failed = 0
    for name, inputs, wants in cases(folder):
        half = name.endswith("_f16")
        try:
            text = f"onnx {check_onnx(folder, name, inputs, wants, 5e-3 if half else ONNX_BOUND):.1e}"
            if (folder / f"{name}.encoder").exists():
                check_parts(folder, name, inputs, wants)
            if (folder / f"{name}.decode").exists():
                text += f", decoding {check_decoding(folder, name, inputs, wants):.1e}"
            if with_torch and not half:
                graph = onnx.load(folder / f"{name.split('@')[0]}.onnx", load_external_data=False).graph
                integers = {i.name for i in graph.input if i.type.tensor_type.elem_type == onnx.TensorProto.INT64}
                order = integers, ([i.name for i in graph.input], [o.name for o in graph.output])
                text += f", torch {check_torch(folder, name, inputs, wants, order, TORCH_BOUND):.1e}"
            print(f"{name}: {text}")
        except Exception as e:  # noqa: BLE001 — one case that fails must not hide the others.
            failed += 1
            print(f"{name}: FAILED: {e}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
