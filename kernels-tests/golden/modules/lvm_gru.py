"""vector_gru, written by engine 0.1.0: context (batch, length, 8) → target (batch, 8).

    model = load()
    target = model(context)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "input_proj.weight": (12, 8),
    "input_proj.bias": (12,),
    "blocks.0.norm.weight": (12,),
    "blocks.0.norm.bias": (12,),
    "blocks.0.mamba.weight_ih_l0": (36, 12),
    "blocks.0.mamba.bias_ih_l0": (36,),
    "blocks.0.mamba.weight_hh_l0": (36, 12),
    "blocks.0.mamba.bias_hh_l0": (36,),
    "blocks.1.norm.weight": (12,),
    "blocks.1.norm.bias": (12,),
    "blocks.1.mamba.weight_ih_l0": (36, 12),
    "blocks.1.mamba.bias_ih_l0": (36,),
    "blocks.1.mamba.weight_hh_l0": (36, 12),
    "blocks.1.mamba.bias_hh_l0": (36,),
    "blocks.2.norm.weight": (12,),
    "blocks.2.norm.bias": (12,),
    "blocks.2.mamba.weight_ih_l0": (36, 12),
    "blocks.2.mamba.bias_ih_l0": (36,),
    "blocks.2.mamba.weight_hh_l0": (36, 12),
    "blocks.2.mamba.bias_hh_l0": (36,),
    "blocks.3.norm.weight": (12,),
    "blocks.3.norm.bias": (12,),
    "blocks.3.mamba.weight_ih_l0": (36, 12),
    "blocks.3.mamba.bias_ih_l0": (36,),
    "blocks.3.mamba.weight_hh_l0": (36, 12),
    "blocks.3.mamba.bias_hh_l0": (36,),
    "head.0.weight": (12, 12),
    "head.0.bias": (12,),
    "head.2.weight": (12,),
    "head.2.bias": (12,),
    "head.3.weight": (8, 12),
    "head.3.bias": (8,),
}

# What is kept with them and not trained.
BUFFERS = {}


def gru(x, *weights):
    """Hidden states of a GRU layer over x (time, batch, features), from zeros."""
    zeros = x.new_zeros(1, x.shape[1], weights[1].shape[1])
    return torch.gru(x, zeros, weights, True, 1, 0.0, False, False, False)[0]


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, shape in PARAMETERS.items():
            module, last = self.place(name)
            module.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))
        for name, shape in BUFFERS.items():
            module, last = self.place(name)
            module.register_buffer(last, torch.zeros(shape))

    def place(self, name):
        """The module that a name with dots leads to, and the last part of the name."""
        module, (*path, last) = self, name.split(".")
        for part in path:
            module = module._modules.setdefault(part, torch.nn.Module())
        return module, last

    def forward(self, context):
        w = self.state_dict(keep_vars=True)
        # context
        context_time_major = context.permute(1, 0, 2)
        # input_proj
        input_proj_y = F.linear(context_time_major, w["input_proj.weight"], w["input_proj.bias"])
        # blocks.0.norm
        blocks_0_norm_y = F.layer_norm(input_proj_y, input_proj_y.shape[-1:], w["blocks.0.norm.weight"], w["blocks.0.norm.bias"], 1e-5)
        # blocks.0.mamba.l0
        blocks_0_mamba_l0_states = gru(blocks_0_norm_y, w["blocks.0.mamba.weight_ih_l0"], w["blocks.0.mamba.weight_hh_l0"], w["blocks.0.mamba.bias_ih_l0"], w["blocks.0.mamba.bias_hh_l0"])
        blocks_0_mamba_l0_out = blocks_0_mamba_l0_states + input_proj_y
        # blocks.1.norm
        blocks_1_norm_y = F.layer_norm(blocks_0_mamba_l0_out, blocks_0_mamba_l0_out.shape[-1:], w["blocks.1.norm.weight"], w["blocks.1.norm.bias"], 1e-5)
        # blocks.1.mamba.l0
        blocks_1_mamba_l0_states = gru(blocks_1_norm_y, w["blocks.1.mamba.weight_ih_l0"], w["blocks.1.mamba.weight_hh_l0"], w["blocks.1.mamba.bias_ih_l0"], w["blocks.1.mamba.bias_hh_l0"])
        blocks_1_mamba_l0_out = blocks_1_mamba_l0_states + blocks_0_mamba_l0_out
        # blocks.2.norm
        blocks_2_norm_y = F.layer_norm(blocks_1_mamba_l0_out, blocks_1_mamba_l0_out.shape[-1:], w["blocks.2.norm.weight"], w["blocks.2.norm.bias"], 1e-5)
        # blocks.2.mamba.l0
        blocks_2_mamba_l0_states = gru(blocks_2_norm_y, w["blocks.2.mamba.weight_ih_l0"], w["blocks.2.mamba.weight_hh_l0"], w["blocks.2.mamba.bias_ih_l0"], w["blocks.2.mamba.bias_hh_l0"])
        blocks_2_mamba_l0_out = blocks_2_mamba_l0_states + blocks_1_mamba_l0_out
        # blocks.3.norm
        blocks_3_norm_y = F.layer_norm(blocks_2_mamba_l0_out, blocks_2_mamba_l0_out.shape[-1:], w["blocks.3.norm.weight"], w["blocks.3.norm.bias"], 1e-5)
        # blocks.3.mamba.l0
        blocks_3_mamba_l0_states = gru(blocks_3_norm_y, w["blocks.3.mamba.weight_ih_l0"], w["blocks.3.mamba.weight_hh_l0"], w["blocks.3.mamba.bias_ih_l0"], w["blocks.3.mamba.bias_hh_l0"])
        blocks_3_mamba_l0_out = blocks_3_mamba_l0_states + blocks_2_mamba_l0_out
        # last
        last_y = blocks_3_mamba_l0_out[-1]
        # head.0
        head_0_y = F.linear(last_y, w["head.0.weight"], w["head.0.bias"])
        head_0_activated = F.gelu(head_0_y)
        # head.2
        head_2_y = F.layer_norm(head_0_activated, head_0_activated.shape[-1:], w["head.2.weight"], w["head.2.bias"], 1e-5)
        # head.3
        target = F.linear(head_2_y, w["head.3.weight"], w["head.3.bias"])
        return target


def load(path=pathlib.Path(__file__).with_name("lvm_gru.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
