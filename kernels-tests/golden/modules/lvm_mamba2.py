"""vector_mamba2, written by engine 0.1.0: context (batch, 5, 8) → target (batch, 8).

    model = load()
    target = model(context)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "input_proj.weight": (16, 8),
    "input_proj.bias": (16,),
    "blocks.0.norm.weight": (16,),
    "blocks.0.mixer.in_proj.weight": (76, 16),
    "blocks.0.mixer.conv1d.weight": (40, 1, 4),
    "blocks.0.mixer.conv1d.bias": (40,),
    "blocks.0.mixer.dt_bias": (4,),
    "blocks.0.mixer.A_log": (4,),
    "blocks.0.mixer.D": (4,),
    "blocks.0.mixer.norm.weight": (32,),
    "blocks.0.mixer.out_proj.weight": (16, 32),
    "blocks.1.norm.weight": (16,),
    "blocks.1.mixer.in_proj.weight": (76, 16),
    "blocks.1.mixer.conv1d.weight": (40, 1, 4),
    "blocks.1.mixer.conv1d.bias": (40,),
    "blocks.1.mixer.dt_bias": (4,),
    "blocks.1.mixer.A_log": (4,),
    "blocks.1.mixer.D": (4,),
    "blocks.1.mixer.norm.weight": (32,),
    "blocks.1.mixer.out_proj.weight": (16, 32),
    "head.0.weight": (16, 16),
    "head.0.bias": (16,),
    "head.2.weight": (16,),
    "head.2.bias": (16,),
    "head.3.weight": (8, 16),
    "head.3.bias": (8,),
}

# What is kept with them and not trained.
BUFFERS = {
    "constants.until.2": (2, 2),
    "constants.before.3": (3, 3),
}


def rms(x, eps):
    """x over the root of its mean square along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


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
        # input_proj
        input_proj_y = F.linear(context, w["input_proj.weight"], w["input_proj.bias"])
        # blocks.0.norm
        blocks_0_norm_rms = rms(input_proj_y, 1e-5)
        blocks_0_norm_y = blocks_0_norm_rms * w["blocks.0.norm.weight"]
        # blocks.0.mixer.in_proj
        blocks_0_mixer_in_proj_y = F.linear(blocks_0_norm_y, w["blocks.0.mixer.in_proj.weight"])
        # blocks.0.mixer
        blocks_0_mixer_channels = blocks_0_mixer_in_proj_y[:, :, 32:72]
        blocks_0_mixer_convolved = F.conv1d(F.pad(blocks_0_mixer_channels.transpose(1, 2), (3, 0)), w["blocks.0.mixer.conv1d.weight"], w["blocks.0.mixer.conv1d.bias"], groups=40).transpose(1, 2)
        blocks_0_mixer_activated = F.silu(blocks_0_mixer_convolved)
        # blocks.0.mixer.ssd
        blocks_0_mixer_ssd_x = blocks_0_mixer_activated[:, :, 0:32]
        blocks_0_mixer_ssd_padded = F.pad(blocks_0_mixer_ssd_x, (0, 0, 0, 1))
        blocks_0_mixer_ssd_view = blocks_0_mixer_ssd_padded.reshape(blocks_0_mixer_ssd_padded.shape[0], 3, 2, 4, 8)
        blocks_0_mixer_ssd_chunks = blocks_0_mixer_ssd_view.permute(0, 1, 3, 2, 4)
        blocks_0_mixer_ssd_keys = blocks_0_mixer_activated[:, :, 32:36]
        blocks_0_mixer_ssd_padded_2 = F.pad(blocks_0_mixer_ssd_keys, (0, 0, 0, 1))
        blocks_0_mixer_ssd_view_2 = blocks_0_mixer_ssd_padded_2.reshape(blocks_0_mixer_ssd_padded_2.shape[0], 3, 2, 1, 4)
        blocks_0_mixer_ssd_chunks_2 = blocks_0_mixer_ssd_view_2.permute(0, 1, 3, 2, 4)
        blocks_0_mixer_ssd_queries = blocks_0_mixer_activated[:, :, 36:40]
        blocks_0_mixer_ssd_padded_3 = F.pad(blocks_0_mixer_ssd_queries, (0, 0, 0, 1))
        blocks_0_mixer_ssd_view_3 = blocks_0_mixer_ssd_padded_3.reshape(blocks_0_mixer_ssd_padded_3.shape[0], 3, 2, 1, 4)
        blocks_0_mixer_ssd_chunks_3 = blocks_0_mixer_ssd_view_3.permute(0, 1, 3, 2, 4)
        blocks_0_mixer_ssd_dt = blocks_0_mixer_in_proj_y[:, :, 72:]
        blocks_0_mixer_ssd_dt_biased = blocks_0_mixer_ssd_dt + w["blocks.0.mixer.dt_bias"]
        blocks_0_mixer_ssd_steps = F.softplus(blocks_0_mixer_ssd_dt_biased)
        blocks_0_mixer_ssd_padded_4 = F.pad(blocks_0_mixer_ssd_steps, (0, 0, 0, 1))
        blocks_0_mixer_ssd_view_4 = blocks_0_mixer_ssd_padded_4.reshape(blocks_0_mixer_ssd_padded_4.shape[0], 3, 2, 4, 1)
        blocks_0_mixer_ssd_chunks_4 = blocks_0_mixer_ssd_view_4.permute(0, 1, 3, 2, 4)
        blocks_0_mixer_ssd_view_5 = blocks_0_mixer_ssd_chunks_4.reshape(blocks_0_mixer_ssd_chunks_4.shape[0], 3, 4, 2)
        blocks_0_mixer_ssd_rate = torch.exp(w["blocks.0.mixer.A_log"])
        blocks_0_mixer_ssd_view_6 = blocks_0_mixer_ssd_rate.reshape(4, 1)
        blocks_0_mixer_ssd_falls = blocks_0_mixer_ssd_view_5 * blocks_0_mixer_ssd_view_6
        blocks_0_mixer_ssd_fall_sums = blocks_0_mixer_ssd_falls.cumsum(3)
        blocks_0_mixer_ssd_decay_sums = -blocks_0_mixer_ssd_fall_sums
        blocks_0_mixer_ssd_view_7 = blocks_0_mixer_ssd_chunks_3.reshape(-1, 2, 4)
        blocks_0_mixer_ssd_view_8 = blocks_0_mixer_ssd_chunks_2.reshape(-1, 2, 4)
        blocks_0_mixer_ssd_transposed = blocks_0_mixer_ssd_view_8.permute(0, 2, 1)
        blocks_0_mixer_ssd_product = blocks_0_mixer_ssd_view_7 @ blocks_0_mixer_ssd_transposed
        blocks_0_mixer_ssd_rows = blocks_0_mixer_ssd_decay_sums.unsqueeze(4)
        blocks_0_mixer_ssd_columns = blocks_0_mixer_ssd_decay_sums.unsqueeze(3)
        blocks_0_mixer_ssd_between = blocks_0_mixer_ssd_rows - blocks_0_mixer_ssd_columns
        blocks_0_mixer_ssd_masked = blocks_0_mixer_ssd_between + w["constants.until.2"]
        blocks_0_mixer_ssd_fall = torch.exp(blocks_0_mixer_ssd_masked)
        blocks_0_mixer_ssd_step_columns = blocks_0_mixer_ssd_view_5.unsqueeze(3)
        blocks_0_mixer_ssd_weight = blocks_0_mixer_ssd_fall * blocks_0_mixer_ssd_step_columns
        blocks_0_mixer_ssd_view_9 = blocks_0_mixer_ssd_weight.reshape(blocks_0_mixer_ssd_weight.shape[0], 3, 1, 4, 2, 2)
        blocks_0_mixer_ssd_view_10 = blocks_0_mixer_ssd_product.reshape(-1, 3, 1, 1, 2, 2)
        blocks_0_mixer_ssd_m = blocks_0_mixer_ssd_view_10 * blocks_0_mixer_ssd_view_9
        blocks_0_mixer_ssd_view_11 = blocks_0_mixer_ssd_m.reshape(-1, 2, 2)
        blocks_0_mixer_ssd_view_12 = blocks_0_mixer_ssd_chunks.reshape(-1, 2, 8)
        blocks_0_mixer_ssd_product_2 = blocks_0_mixer_ssd_view_11 @ blocks_0_mixer_ssd_view_12
        blocks_0_mixer_ssd_end = blocks_0_mixer_ssd_decay_sums[:, :, :, 1:2]
        blocks_0_mixer_ssd_until_end = blocks_0_mixer_ssd_end - blocks_0_mixer_ssd_decay_sums
        blocks_0_mixer_ssd_kept = torch.exp(blocks_0_mixer_ssd_until_end)
        blocks_0_mixer_ssd_weight_2 = blocks_0_mixer_ssd_kept * blocks_0_mixer_ssd_view_5
        blocks_0_mixer_ssd_weights = blocks_0_mixer_ssd_weight_2.unsqueeze(4)
        blocks_0_mixer_ssd_weighed = blocks_0_mixer_ssd_weights * blocks_0_mixer_ssd_chunks
        blocks_0_mixer_ssd_view_13 = blocks_0_mixer_ssd_weighed.reshape(blocks_0_mixer_ssd_weighed.shape[0], 3, 1, 4, 2, 8)
        blocks_0_mixer_ssd_by_group = blocks_0_mixer_ssd_view_13.permute(0, 1, 2, 4, 3, 5)
        blocks_0_mixer_ssd_view_14 = blocks_0_mixer_ssd_by_group.reshape(-1, 2, 32)
        blocks_0_mixer_ssd_transposed_2 = blocks_0_mixer_ssd_view_14.permute(0, 2, 1)
        blocks_0_mixer_ssd_view_15 = blocks_0_mixer_ssd_chunks_2.reshape(-1, 2, 4)
        blocks_0_mixer_ssd_product_3 = blocks_0_mixer_ssd_transposed_2 @ blocks_0_mixer_ssd_view_15
        blocks_0_mixer_ssd_chunk_falls = blocks_0_mixer_ssd_decay_sums[:, :, :, -1]
        blocks_0_mixer_ssd_by_head = blocks_0_mixer_ssd_chunk_falls.permute(0, 2, 1)
        blocks_0_mixer_ssd_sums = blocks_0_mixer_ssd_by_head.cumsum(2)
        blocks_0_mixer_ssd_sums_before = blocks_0_mixer_ssd_sums - blocks_0_mixer_ssd_by_head
        blocks_0_mixer_ssd_rows_2 = blocks_0_mixer_ssd_sums_before.unsqueeze(3)
        blocks_0_mixer_ssd_columns_2 = blocks_0_mixer_ssd_sums.unsqueeze(2)
        blocks_0_mixer_ssd_between_2 = blocks_0_mixer_ssd_rows_2 - blocks_0_mixer_ssd_columns_2
        blocks_0_mixer_ssd_masked_2 = blocks_0_mixer_ssd_between_2 + w["constants.before.3"]
        blocks_0_mixer_ssd_fall_2 = torch.exp(blocks_0_mixer_ssd_masked_2)
        blocks_0_mixer_ssd_view_16 = blocks_0_mixer_ssd_product_3.reshape(-1, 3, 4, 32)
        blocks_0_mixer_ssd_carried = blocks_0_mixer_ssd_view_16.permute(0, 2, 1, 3)
        blocks_0_mixer_ssd_borders = blocks_0_mixer_ssd_fall_2 @ blocks_0_mixer_ssd_carried
        blocks_0_mixer_ssd_states = blocks_0_mixer_ssd_borders.permute(0, 2, 1, 3)
        blocks_0_mixer_ssd_view_17 = blocks_0_mixer_ssd_chunks_3.reshape(-1, 2, 4)
        blocks_0_mixer_ssd_view_18 = blocks_0_mixer_ssd_states.reshape(-1, 32, 4)
        blocks_0_mixer_ssd_transposed_3 = blocks_0_mixer_ssd_view_18.permute(0, 2, 1)
        blocks_0_mixer_ssd_product_4 = blocks_0_mixer_ssd_view_17 @ blocks_0_mixer_ssd_transposed_3
        blocks_0_mixer_ssd_view_19 = blocks_0_mixer_ssd_product_2.reshape(-1, 3, 4, 2, 8)
        blocks_0_mixer_ssd_view_20 = w["blocks.0.mixer.D"].reshape(4, 1, 1)
        blocks_0_mixer_ssd_through = blocks_0_mixer_ssd_chunks * blocks_0_mixer_ssd_view_20
        blocks_0_mixer_ssd_own = blocks_0_mixer_ssd_view_19 + blocks_0_mixer_ssd_through
        blocks_0_mixer_ssd_view_21 = blocks_0_mixer_ssd_product_4.reshape(-1, 3, 1, 2, 4, 8)
        blocks_0_mixer_ssd_before = blocks_0_mixer_ssd_view_21.permute(0, 1, 2, 4, 3, 5)
        blocks_0_mixer_ssd_view_22 = blocks_0_mixer_ssd_before.reshape(blocks_0_mixer_ssd_before.shape[0], 3, 4, 2, 8)
        blocks_0_mixer_ssd_left = torch.exp(blocks_0_mixer_ssd_decay_sums)
        blocks_0_mixer_ssd_lefts = blocks_0_mixer_ssd_left.unsqueeze(4)
        blocks_0_mixer_ssd_from_before = blocks_0_mixer_ssd_lefts * blocks_0_mixer_ssd_view_22
        blocks_0_mixer_ssd_sum = blocks_0_mixer_ssd_own + blocks_0_mixer_ssd_from_before
        blocks_0_mixer_ssd_positions = blocks_0_mixer_ssd_sum.permute(0, 1, 3, 2, 4)
        blocks_0_mixer_ssd_view_23 = blocks_0_mixer_ssd_positions.reshape(blocks_0_mixer_ssd_positions.shape[0], 6, 32)
        blocks_0_mixer_ssd_cut = blocks_0_mixer_ssd_view_23[:, 0:5]
        # blocks.0.mixer
        blocks_0_mixer_gate = blocks_0_mixer_in_proj_y[:, :, 0:32]
        blocks_0_mixer_silu = F.silu(blocks_0_mixer_gate)
        blocks_0_mixer_gated = blocks_0_mixer_ssd_cut * blocks_0_mixer_silu
        blocks_0_mixer_rms = rms(blocks_0_mixer_gated, 1e-5)
        blocks_0_mixer_out = blocks_0_mixer_rms * w["blocks.0.mixer.norm.weight"]
        # blocks.0.mixer.out_proj
        blocks_0_mixer_out_proj_y = F.linear(blocks_0_mixer_out, w["blocks.0.mixer.out_proj.weight"])
        blocks_0_mixer_out_proj_sum = blocks_0_mixer_out_proj_y + input_proj_y
        # blocks.1.norm
        blocks_1_norm_rms = rms(blocks_0_mixer_out_proj_sum, 1e-5)
        blocks_1_norm_y = blocks_1_norm_rms * w["blocks.1.norm.weight"]
        # blocks.1.mixer.in_proj
        blocks_1_mixer_in_proj_y = F.linear(blocks_1_norm_y, w["blocks.1.mixer.in_proj.weight"])
        # blocks.1.mixer
        blocks_1_mixer_channels = blocks_1_mixer_in_proj_y[:, :, 32:72]
        blocks_1_mixer_convolved = F.conv1d(F.pad(blocks_1_mixer_channels.transpose(1, 2), (3, 0)), w["blocks.1.mixer.conv1d.weight"], w["blocks.1.mixer.conv1d.bias"], groups=40).transpose(1, 2)
        blocks_1_mixer_activated = F.silu(blocks_1_mixer_convolved)
        # blocks.1.mixer.ssd
        blocks_1_mixer_ssd_x = blocks_1_mixer_activated[:, :, 0:32]
        blocks_1_mixer_ssd_padded = F.pad(blocks_1_mixer_ssd_x, (0, 0, 0, 1))
        blocks_1_mixer_ssd_view = blocks_1_mixer_ssd_padded.reshape(blocks_1_mixer_ssd_padded.shape[0], 3, 2, 4, 8)
        blocks_1_mixer_ssd_chunks = blocks_1_mixer_ssd_view.permute(0, 1, 3, 2, 4)
        blocks_1_mixer_ssd_keys = blocks_1_mixer_activated[:, :, 32:36]
        blocks_1_mixer_ssd_padded_2 = F.pad(blocks_1_mixer_ssd_keys, (0, 0, 0, 1))
        blocks_1_mixer_ssd_view_2 = blocks_1_mixer_ssd_padded_2.reshape(blocks_1_mixer_ssd_padded_2.shape[0], 3, 2, 1, 4)
        blocks_1_mixer_ssd_chunks_2 = blocks_1_mixer_ssd_view_2.permute(0, 1, 3, 2, 4)
        blocks_1_mixer_ssd_queries = blocks_1_mixer_activated[:, :, 36:40]
        blocks_1_mixer_ssd_padded_3 = F.pad(blocks_1_mixer_ssd_queries, (0, 0, 0, 1))
        blocks_1_mixer_ssd_view_3 = blocks_1_mixer_ssd_padded_3.reshape(blocks_1_mixer_ssd_padded_3.shape[0], 3, 2, 1, 4)
        blocks_1_mixer_ssd_chunks_3 = blocks_1_mixer_ssd_view_3.permute(0, 1, 3, 2, 4)
        blocks_1_mixer_ssd_dt = blocks_1_mixer_in_proj_y[:, :, 72:]
        blocks_1_mixer_ssd_dt_biased = blocks_1_mixer_ssd_dt + w["blocks.1.mixer.dt_bias"]
        blocks_1_mixer_ssd_steps = F.softplus(blocks_1_mixer_ssd_dt_biased)
        blocks_1_mixer_ssd_padded_4 = F.pad(blocks_1_mixer_ssd_steps, (0, 0, 0, 1))
        blocks_1_mixer_ssd_view_4 = blocks_1_mixer_ssd_padded_4.reshape(blocks_1_mixer_ssd_padded_4.shape[0], 3, 2, 4, 1)
        blocks_1_mixer_ssd_chunks_4 = blocks_1_mixer_ssd_view_4.permute(0, 1, 3, 2, 4)
        blocks_1_mixer_ssd_view_5 = blocks_1_mixer_ssd_chunks_4.reshape(blocks_1_mixer_ssd_chunks_4.shape[0], 3, 4, 2)
        blocks_1_mixer_ssd_rate = torch.exp(w["blocks.1.mixer.A_log"])
        blocks_1_mixer_ssd_view_6 = blocks_1_mixer_ssd_rate.reshape(4, 1)
        blocks_1_mixer_ssd_falls = blocks_1_mixer_ssd_view_5 * blocks_1_mixer_ssd_view_6
        blocks_1_mixer_ssd_fall_sums = blocks_1_mixer_ssd_falls.cumsum(3)
        blocks_1_mixer_ssd_decay_sums = -blocks_1_mixer_ssd_fall_sums
        blocks_1_mixer_ssd_view_7 = blocks_1_mixer_ssd_chunks_3.reshape(-1, 2, 4)
        blocks_1_mixer_ssd_view_8 = blocks_1_mixer_ssd_chunks_2.reshape(-1, 2, 4)
        blocks_1_mixer_ssd_transposed = blocks_1_mixer_ssd_view_8.permute(0, 2, 1)
        blocks_1_mixer_ssd_product = blocks_1_mixer_ssd_view_7 @ blocks_1_mixer_ssd_transposed
        blocks_1_mixer_ssd_rows = blocks_1_mixer_ssd_decay_sums.unsqueeze(4)
        blocks_1_mixer_ssd_columns = blocks_1_mixer_ssd_decay_sums.unsqueeze(3)
        blocks_1_mixer_ssd_between = blocks_1_mixer_ssd_rows - blocks_1_mixer_ssd_columns
        blocks_1_mixer_ssd_masked = blocks_1_mixer_ssd_between + w["constants.until.2"]
        blocks_1_mixer_ssd_fall = torch.exp(blocks_1_mixer_ssd_masked)
        blocks_1_mixer_ssd_step_columns = blocks_1_mixer_ssd_view_5.unsqueeze(3)
        blocks_1_mixer_ssd_weight = blocks_1_mixer_ssd_fall * blocks_1_mixer_ssd_step_columns
        blocks_1_mixer_ssd_view_9 = blocks_1_mixer_ssd_weight.reshape(blocks_1_mixer_ssd_weight.shape[0], 3, 1, 4, 2, 2)
        blocks_1_mixer_ssd_view_10 = blocks_1_mixer_ssd_product.reshape(-1, 3, 1, 1, 2, 2)
        blocks_1_mixer_ssd_m = blocks_1_mixer_ssd_view_10 * blocks_1_mixer_ssd_view_9
        blocks_1_mixer_ssd_view_11 = blocks_1_mixer_ssd_m.reshape(-1, 2, 2)
        blocks_1_mixer_ssd_view_12 = blocks_1_mixer_ssd_chunks.reshape(-1, 2, 8)
        blocks_1_mixer_ssd_product_2 = blocks_1_mixer_ssd_view_11 @ blocks_1_mixer_ssd_view_12
        blocks_1_mixer_ssd_end = blocks_1_mixer_ssd_decay_sums[:, :, :, 1:2]
        blocks_1_mixer_ssd_until_end = blocks_1_mixer_ssd_end - blocks_1_mixer_ssd_decay_sums
        blocks_1_mixer_ssd_kept = torch.exp(blocks_1_mixer_ssd_until_end)
        blocks_1_mixer_ssd_weight_2 = blocks_1_mixer_ssd_kept * blocks_1_mixer_ssd_view_5
        blocks_1_mixer_ssd_weights = blocks_1_mixer_ssd_weight_2.unsqueeze(4)
        blocks_1_mixer_ssd_weighed = blocks_1_mixer_ssd_weights * blocks_1_mixer_ssd_chunks
        blocks_1_mixer_ssd_view_13 = blocks_1_mixer_ssd_weighed.reshape(blocks_1_mixer_ssd_weighed.shape[0], 3, 1, 4, 2, 8)
        blocks_1_mixer_ssd_by_group = blocks_1_mixer_ssd_view_13.permute(0, 1, 2, 4, 3, 5)
        blocks_1_mixer_ssd_view_14 = blocks_1_mixer_ssd_by_group.reshape(-1, 2, 32)
        blocks_1_mixer_ssd_transposed_2 = blocks_1_mixer_ssd_view_14.permute(0, 2, 1)
        blocks_1_mixer_ssd_view_15 = blocks_1_mixer_ssd_chunks_2.reshape(-1, 2, 4)
        blocks_1_mixer_ssd_product_3 = blocks_1_mixer_ssd_transposed_2 @ blocks_1_mixer_ssd_view_15
        blocks_1_mixer_ssd_chunk_falls = blocks_1_mixer_ssd_decay_sums[:, :, :, -1]
        blocks_1_mixer_ssd_by_head = blocks_1_mixer_ssd_chunk_falls.permute(0, 2, 1)
        blocks_1_mixer_ssd_sums = blocks_1_mixer_ssd_by_head.cumsum(2)
        blocks_1_mixer_ssd_sums_before = blocks_1_mixer_ssd_sums - blocks_1_mixer_ssd_by_head
        blocks_1_mixer_ssd_rows_2 = blocks_1_mixer_ssd_sums_before.unsqueeze(3)
        blocks_1_mixer_ssd_columns_2 = blocks_1_mixer_ssd_sums.unsqueeze(2)
        blocks_1_mixer_ssd_between_2 = blocks_1_mixer_ssd_rows_2 - blocks_1_mixer_ssd_columns_2
        blocks_1_mixer_ssd_masked_2 = blocks_1_mixer_ssd_between_2 + w["constants.before.3"]
        blocks_1_mixer_ssd_fall_2 = torch.exp(blocks_1_mixer_ssd_masked_2)
        blocks_1_mixer_ssd_view_16 = blocks_1_mixer_ssd_product_3.reshape(-1, 3, 4, 32)
        blocks_1_mixer_ssd_carried = blocks_1_mixer_ssd_view_16.permute(0, 2, 1, 3)
        blocks_1_mixer_ssd_borders = blocks_1_mixer_ssd_fall_2 @ blocks_1_mixer_ssd_carried
        blocks_1_mixer_ssd_states = blocks_1_mixer_ssd_borders.permute(0, 2, 1, 3)
        blocks_1_mixer_ssd_view_17 = blocks_1_mixer_ssd_chunks_3.reshape(-1, 2, 4)
        blocks_1_mixer_ssd_view_18 = blocks_1_mixer_ssd_states.reshape(-1, 32, 4)
        blocks_1_mixer_ssd_transposed_3 = blocks_1_mixer_ssd_view_18.permute(0, 2, 1)
        blocks_1_mixer_ssd_product_4 = blocks_1_mixer_ssd_view_17 @ blocks_1_mixer_ssd_transposed_3
        blocks_1_mixer_ssd_view_19 = blocks_1_mixer_ssd_product_2.reshape(-1, 3, 4, 2, 8)
        blocks_1_mixer_ssd_view_20 = w["blocks.1.mixer.D"].reshape(4, 1, 1)
        blocks_1_mixer_ssd_through = blocks_1_mixer_ssd_chunks * blocks_1_mixer_ssd_view_20
        blocks_1_mixer_ssd_own = blocks_1_mixer_ssd_view_19 + blocks_1_mixer_ssd_through
        blocks_1_mixer_ssd_view_21 = blocks_1_mixer_ssd_product_4.reshape(-1, 3, 1, 2, 4, 8)
        blocks_1_mixer_ssd_before = blocks_1_mixer_ssd_view_21.permute(0, 1, 2, 4, 3, 5)
        blocks_1_mixer_ssd_view_22 = blocks_1_mixer_ssd_before.reshape(blocks_1_mixer_ssd_before.shape[0], 3, 4, 2, 8)
        blocks_1_mixer_ssd_left = torch.exp(blocks_1_mixer_ssd_decay_sums)
        blocks_1_mixer_ssd_lefts = blocks_1_mixer_ssd_left.unsqueeze(4)
        blocks_1_mixer_ssd_from_before = blocks_1_mixer_ssd_lefts * blocks_1_mixer_ssd_view_22
        blocks_1_mixer_ssd_sum = blocks_1_mixer_ssd_own + blocks_1_mixer_ssd_from_before
        blocks_1_mixer_ssd_positions = blocks_1_mixer_ssd_sum.permute(0, 1, 3, 2, 4)
        blocks_1_mixer_ssd_view_23 = blocks_1_mixer_ssd_positions.reshape(blocks_1_mixer_ssd_positions.shape[0], 6, 32)
        blocks_1_mixer_ssd_cut = blocks_1_mixer_ssd_view_23[:, 0:5]
        # blocks.1.mixer
        blocks_1_mixer_gate = blocks_1_mixer_in_proj_y[:, :, 0:32]
        blocks_1_mixer_silu = F.silu(blocks_1_mixer_gate)
        blocks_1_mixer_gated = blocks_1_mixer_ssd_cut * blocks_1_mixer_silu
        blocks_1_mixer_rms = rms(blocks_1_mixer_gated, 1e-5)
        blocks_1_mixer_out = blocks_1_mixer_rms * w["blocks.1.mixer.norm.weight"]
        # blocks.1.mixer.out_proj
        blocks_1_mixer_out_proj_y = F.linear(blocks_1_mixer_out, w["blocks.1.mixer.out_proj.weight"])
        blocks_1_mixer_out_proj_sum = blocks_1_mixer_out_proj_y + blocks_0_mixer_out_proj_sum
        # last
        last_y = blocks_1_mixer_out_proj_sum[:, -1]
        # head.0
        head_0_y = F.linear(last_y, w["head.0.weight"], w["head.0.bias"])
        head_0_activated = F.gelu(head_0_y)
        # head.2
        head_2_y = F.layer_norm(head_0_activated, head_0_activated.shape[-1:], w["head.2.weight"], w["head.2.bias"], 1e-5)
        # head.3
        target = F.linear(head_2_y, w["head.3.weight"], w["head.3.bias"])
        return target


def load(path=pathlib.Path(__file__).with_name("lvm_mamba2.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
