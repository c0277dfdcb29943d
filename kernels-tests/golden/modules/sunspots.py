"""stack, written by engine 0.1.0: past (batch, length, 1) → future (batch, 11, 1).

    model = load()
    future = model(past)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "0.weight_ih_l0": (192, 1),
    "0.bias_ih_l0": (192,),
    "0.weight_hh_l0": (192, 64),
    "0.bias_hh_l0": (192,),
    "2.weight": (11, 64),
    "2.bias": (11,),
}

# What is kept with them and not trained.
BUFFERS = {
    "normalization.past.mean": (1,),
    "normalization.past.deviation": (1,),
    "normalization.future.mean": (1,),
    "normalization.future.deviation": (1,),
}


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

    def forward(self, past):
        w = self.state_dict(keep_vars=True)
        # past
        past_scaled = ((past.double() - w["normalization.past.mean"]) / w["normalization.past.deviation"]).float()
        # 0
        layer_0_turned = past_scaled.permute(1, 0, 2)
        # 0.l0
        layer_0_l0_states = gru(layer_0_turned, w["0.weight_ih_l0"], w["0.weight_hh_l0"], w["0.bias_ih_l0"], w["0.bias_hh_l0"])
        # 0
        layer_0_turned_2 = layer_0_l0_states.permute(1, 0, 2)
        # last
        last_y = layer_0_turned_2[:, -1]
        # 2
        layer_2_y = F.linear(last_y, w["2.weight"], w["2.bias"])
        # future
        future_view = layer_2_y.unflatten(1, (11, 1))
        future_stretched = future_view * w["normalization.future.deviation"]
        future = future_stretched + w["normalization.future.mean"]
        return future


def load(path=pathlib.Path(__file__).with_name("sunspots.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
