"""stack, written by engine 0.1.0: context (batch, 3, 12) → target (batch, 12).

    model = load()
    target = model(context)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "0.weight": (5, 12, 3),
    "0.bias": (5,),
    "1.weight": (3, 5),
    "3.weight": (6, 5, 2),
    "3.bias": (6,),
    "4.weight_ih_l0": (12, 6),
    "4.bias_ih_l0": (12,),
    "4.weight_hh_l0": (12, 3),
    "4.bias_hh_l0": (12,),
    "4.weight_ih_l0_reverse": (12, 6),
    "4.bias_ih_l0_reverse": (12,),
    "4.weight_hh_l0_reverse": (12, 3),
    "4.bias_hh_l0_reverse": (12,),
    "5.weight_ih_l0": (12, 6),
    "5.bias_ih_l0": (12,),
    "5.weight_hh_l0": (12, 4),
    "5.bias_hh_l0": (12,),
    "5.weight_ih_l0_reverse": (12, 6),
    "5.bias_ih_l0_reverse": (12,),
    "5.weight_hh_l0_reverse": (12, 4),
    "5.bias_hh_l0_reverse": (12,),
    "6.score.weight": (2, 8),
    "7.weight": (12, 8),
    "7.bias": (12,),
}

# What is kept with them and not trained.
BUFFERS = {}


def lstm(x, *weights):
    """Hidden states of an LSTM layer over x (time, batch, features), from zeros."""
    zeros = x.new_zeros(1, x.shape[1], weights[1].shape[1])
    return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, False, False, False)[0]


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
        # 0
        layer_0_y = F.conv1d(F.pad(context.transpose(1, 2), (1, 1)), w["0.weight"], w["0.bias"]).transpose(1, 2)
        # 1
        layer_1_sum = layer_0_y + w["1.weight"]
        # 2
        layer_2_y = F.gelu(layer_1_sum)
        # 3
        layer_3_y = F.conv1d(F.pad(layer_2_y.transpose(1, 2), (2, 0)), w["3.weight"], w["3.bias"], dilation=2).transpose(1, 2)
        # 4
        layer_4_turned = layer_3_y.permute(1, 0, 2)
        # 4.l0
        layer_4_l0_states = lstm(layer_4_turned, w["4.weight_ih_l0"], w["4.weight_hh_l0"], w["4.bias_ih_l0"], w["4.bias_hh_l0"])
        # 4
        layer_4_turned_2 = layer_4_l0_states.permute(1, 0, 2)
        layer_4_reversed = layer_3_y.flip(1)
        layer_4_turned_3 = layer_4_reversed.permute(1, 0, 2)
        # 4.l0_reverse
        layer_4_l0_reverse_states = lstm(layer_4_turned_3, w["4.weight_ih_l0_reverse"], w["4.weight_hh_l0_reverse"], w["4.bias_ih_l0_reverse"], w["4.bias_hh_l0_reverse"])
        # 4
        layer_4_reversed_2 = layer_4_l0_reverse_states.flip(0)
        layer_4_turned_4 = layer_4_reversed_2.permute(1, 0, 2)
        layer_4_both = torch.cat([layer_4_turned_2, layer_4_turned_4], 2)
        # 5
        layer_5_turned = layer_4_both.permute(1, 0, 2)
        # 5.l0
        layer_5_l0_states = gru(layer_5_turned, w["5.weight_ih_l0"], w["5.weight_hh_l0"], w["5.bias_ih_l0"], w["5.bias_hh_l0"])
        # 5
        layer_5_turned_2 = layer_5_l0_states.permute(1, 0, 2)
        layer_5_reversed = layer_4_both.flip(1)
        layer_5_turned_3 = layer_5_reversed.permute(1, 0, 2)
        # 5.l0_reverse
        layer_5_l0_reverse_states = gru(layer_5_turned_3, w["5.weight_ih_l0_reverse"], w["5.weight_hh_l0_reverse"], w["5.bias_ih_l0_reverse"], w["5.bias_hh_l0_reverse"])
        # 5
        layer_5_reversed_2 = layer_5_l0_reverse_states.flip(0)
        layer_5_turned_4 = layer_5_reversed_2.permute(1, 0, 2)
        layer_5_both = torch.cat([layer_5_turned_2, layer_5_turned_4], 2)
        # 6.score
        layer_6_score_y = F.linear(layer_5_both, w["6.score.weight"])
        # 6
        layer_6_weights = torch.softmax(layer_6_score_y, 1)
        layer_6_view = layer_5_both.reshape(layer_5_both.shape[0], 3, 2, 4)
        layer_6_column = layer_6_weights.unsqueeze(3)
        layer_6_weighed = layer_6_column * layer_6_view
        layer_6_mean = layer_6_weighed.sum(1)
        layer_6_view_2 = layer_6_mean.flatten(1)
        # 7
        target = F.linear(layer_6_view_2, w["7.weight"], w["7.bias"])
        return target


def load(path=pathlib.Path(__file__).with_name("stack_convolutions.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
