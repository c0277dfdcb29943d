"""llama, written by engine 0.1.0: tokens (batch, 6) → targets_logits (batch, 6, 256).

    model = load()
    targets_logits = model(tokens)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "model.embed_tokens.weight": (256, 32),
    "model.layers.0.input_layernorm.weight": (32,),
    "model.layers.0.self_attn.q_proj.weight": (32, 32),
    "model.layers.0.self_attn.k_proj.weight": (16, 32),
    "model.layers.0.self_attn.v_proj.weight": (16, 32),
    "model.layers.0.self_attn.o_proj.weight": (32, 32),
    "model.layers.0.post_attention_layernorm.weight": (32,),
    "model.layers.0.mlp.gate_proj.weight": (24, 32),
    "model.layers.0.mlp.up_proj.weight": (24, 32),
    "model.layers.0.mlp.down_proj.weight": (32, 24),
    "model.layers.1.input_layernorm.weight": (32,),
    "model.layers.1.self_attn.q_proj.weight": (32, 32),
    "model.layers.1.self_attn.k_proj.weight": (16, 32),
    "model.layers.1.self_attn.v_proj.weight": (16, 32),
    "model.layers.1.self_attn.o_proj.weight": (32, 32),
    "model.layers.1.post_attention_layernorm.weight": (32,),
    "model.layers.1.mlp.gate_proj.weight": (24, 32),
    "model.layers.1.mlp.up_proj.weight": (24, 32),
    "model.layers.1.mlp.down_proj.weight": (32, 24),
    "model.norm.weight": (32,),
}

# What is kept with them and not trained.
BUFFERS = {
    "constants.rope.cos": (6, 1, 4),
    "constants.rope.sin": (6, 1, 4),
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

    def forward(self, tokens):
        w = self.state_dict(keep_vars=True)
        # tokens
        tokens_rows = F.embedding(tokens, w["model.embed_tokens.weight"])
        # model.layers.0.input_layernorm
        model_layers_0_input_layernorm_rms = rms(tokens_rows, 1e-6)
        model_layers_0_input_layernorm_y = model_layers_0_input_layernorm_rms * w["model.layers.0.input_layernorm.weight"]
        # model.layers.0.qkv.weight
        model_layers_0_qkv_weight = torch.cat([w["model.layers.0.self_attn.q_proj.weight"], w["model.layers.0.self_attn.k_proj.weight"], w["model.layers.0.self_attn.v_proj.weight"]], 0)
        # model.layers.0.qkv
        model_layers_0_qkv_y = F.linear(model_layers_0_input_layernorm_y, model_layers_0_qkv_weight)
        # model.layers.0
        model_layers_0_view = model_layers_0_qkv_y.reshape(model_layers_0_qkv_y.shape[0], 6, 8, 8)
        model_layers_0_queries_keys = model_layers_0_view[:, :, 0:6]
        model_layers_0_a = model_layers_0_queries_keys[:, :, :, 0:4]
        model_layers_0_b = model_layers_0_queries_keys[:, :, :, 4:]
        model_layers_0_a_cos = model_layers_0_a * w["constants.rope.cos"]
        model_layers_0_a_sin = model_layers_0_a * w["constants.rope.sin"]
        model_layers_0_b_cos = model_layers_0_b * w["constants.rope.cos"]
        model_layers_0_b_sin = model_layers_0_b * w["constants.rope.sin"]
        model_layers_0_first = model_layers_0_a_cos - model_layers_0_b_sin
        model_layers_0_second = model_layers_0_b_cos + model_layers_0_a_sin
        model_layers_0_turned = torch.cat([model_layers_0_first, model_layers_0_second], 3)
        model_layers_0_values = model_layers_0_view[:, :, 6:]
        model_layers_0_queries = model_layers_0_turned[:, :, 0:4]
        model_layers_0_keys = model_layers_0_turned[:, :, 4:]
        model_layers_0_keys_apart = model_layers_0_keys.unsqueeze(3)
        model_layers_0_keys_repeated = torch.cat([model_layers_0_keys_apart, model_layers_0_keys_apart], 3)
        model_layers_0_view_2 = model_layers_0_keys_repeated.reshape(model_layers_0_keys_repeated.shape[0], 6, 4, 8)
        model_layers_0_values_apart = model_layers_0_values.unsqueeze(3)
        model_layers_0_values_repeated = torch.cat([model_layers_0_values_apart, model_layers_0_values_apart], 3)
        model_layers_0_view_3 = model_layers_0_values_repeated.reshape(model_layers_0_values_repeated.shape[0], 6, 4, 8)
        model_layers_0_y = torch.cat([model_layers_0_queries, model_layers_0_view_2, model_layers_0_view_3], 2)
        model_layers_0_view_4 = model_layers_0_y.reshape(model_layers_0_y.shape[0], 6, 3, 4, 8)
        model_layers_0_k_rows = model_layers_0_view_4[:, :, 1]
        model_layers_0_k = model_layers_0_k_rows.permute(0, 2, 1, 3)
        model_layers_0_v_rows = model_layers_0_view_4[:, :, 2]
        model_layers_0_v = model_layers_0_v_rows.permute(0, 2, 1, 3)
        model_layers_0_q_rows = model_layers_0_view_4[:, :, 0]
        model_layers_0_q = model_layers_0_q_rows.permute(0, 2, 1, 3)
        model_layers_0_heads = F.scaled_dot_product_attention(model_layers_0_q, model_layers_0_k, model_layers_0_v, is_causal=True)
        model_layers_0_attended = model_layers_0_heads.permute(0, 2, 1, 3)
        model_layers_0_view_5 = model_layers_0_attended.reshape(model_layers_0_attended.shape[0], 6, 32)
        # model.layers.0.self_attn.o
        model_layers_0_self_attn_o_y = F.linear(model_layers_0_view_5, w["model.layers.0.self_attn.o_proj.weight"])
        model_layers_0_self_attn_o_sum = model_layers_0_self_attn_o_y + tokens_rows
        # model.layers.0.post_attention_layernorm
        model_layers_0_post_attention_layernorm_rms = rms(model_layers_0_self_attn_o_sum, 1e-6)
        model_layers_0_post_attention_layernorm_y = model_layers_0_post_attention_layernorm_rms * w["model.layers.0.post_attention_layernorm.weight"]
        # model.layers.0.gate_up.weight
        model_layers_0_gate_up_weight = torch.cat([w["model.layers.0.mlp.gate_proj.weight"], w["model.layers.0.mlp.up_proj.weight"]], 0)
        # model.layers.0.gate_up
        model_layers_0_gate_up_y = F.linear(model_layers_0_post_attention_layernorm_y, model_layers_0_gate_up_weight)
        # model.layers.0
        model_layers_0_gate = model_layers_0_gate_up_y[:, :, 0:24]
        model_layers_0_up = model_layers_0_gate_up_y[:, :, 24:]
        model_layers_0_silu = F.silu(model_layers_0_gate)
        model_layers_0_gated = model_layers_0_silu * model_layers_0_up
        # model.layers.0.mlp.down
        model_layers_0_mlp_down_y = F.linear(model_layers_0_gated, w["model.layers.0.mlp.down_proj.weight"])
        model_layers_0_mlp_down_sum = model_layers_0_mlp_down_y + model_layers_0_self_attn_o_sum
        # model.layers.1.input_layernorm
        model_layers_1_input_layernorm_rms = rms(model_layers_0_mlp_down_sum, 1e-6)
        model_layers_1_input_layernorm_y = model_layers_1_input_layernorm_rms * w["model.layers.1.input_layernorm.weight"]
        # model.layers.1.qkv.weight
        model_layers_1_qkv_weight = torch.cat([w["model.layers.1.self_attn.q_proj.weight"], w["model.layers.1.self_attn.k_proj.weight"], w["model.layers.1.self_attn.v_proj.weight"]], 0)
        # model.layers.1.qkv
        model_layers_1_qkv_y = F.linear(model_layers_1_input_layernorm_y, model_layers_1_qkv_weight)
        # model.layers.1
        model_layers_1_view = model_layers_1_qkv_y.reshape(model_layers_1_qkv_y.shape[0], 6, 8, 8)
        model_layers_1_queries_keys = model_layers_1_view[:, :, 0:6]
        model_layers_1_a = model_layers_1_queries_keys[:, :, :, 0:4]
        model_layers_1_b = model_layers_1_queries_keys[:, :, :, 4:]
        model_layers_1_a_cos = model_layers_1_a * w["constants.rope.cos"]
        model_layers_1_a_sin = model_layers_1_a * w["constants.rope.sin"]
        model_layers_1_b_cos = model_layers_1_b * w["constants.rope.cos"]
        model_layers_1_b_sin = model_layers_1_b * w["constants.rope.sin"]
        model_layers_1_first = model_layers_1_a_cos - model_layers_1_b_sin
        model_layers_1_second = model_layers_1_b_cos + model_layers_1_a_sin
        model_layers_1_turned = torch.cat([model_layers_1_first, model_layers_1_second], 3)
        model_layers_1_values = model_layers_1_view[:, :, 6:]
        model_layers_1_queries = model_layers_1_turned[:, :, 0:4]
        model_layers_1_keys = model_layers_1_turned[:, :, 4:]
        model_layers_1_keys_apart = model_layers_1_keys.unsqueeze(3)
        model_layers_1_keys_repeated = torch.cat([model_layers_1_keys_apart, model_layers_1_keys_apart], 3)
        model_layers_1_view_2 = model_layers_1_keys_repeated.reshape(model_layers_1_keys_repeated.shape[0], 6, 4, 8)
        model_layers_1_values_apart = model_layers_1_values.unsqueeze(3)
        model_layers_1_values_repeated = torch.cat([model_layers_1_values_apart, model_layers_1_values_apart], 3)
        model_layers_1_view_3 = model_layers_1_values_repeated.reshape(model_layers_1_values_repeated.shape[0], 6, 4, 8)
        model_layers_1_y = torch.cat([model_layers_1_queries, model_layers_1_view_2, model_layers_1_view_3], 2)
        model_layers_1_view_4 = model_layers_1_y.reshape(model_layers_1_y.shape[0], 6, 3, 4, 8)
        model_layers_1_k_rows = model_layers_1_view_4[:, :, 1]
        model_layers_1_k = model_layers_1_k_rows.permute(0, 2, 1, 3)
        model_layers_1_v_rows = model_layers_1_view_4[:, :, 2]
        model_layers_1_v = model_layers_1_v_rows.permute(0, 2, 1, 3)
        model_layers_1_q_rows = model_layers_1_view_4[:, :, 0]
        model_layers_1_q = model_layers_1_q_rows.permute(0, 2, 1, 3)
        model_layers_1_heads = F.scaled_dot_product_attention(model_layers_1_q, model_layers_1_k, model_layers_1_v, is_causal=True)
        model_layers_1_attended = model_layers_1_heads.permute(0, 2, 1, 3)
        model_layers_1_view_5 = model_layers_1_attended.reshape(model_layers_1_attended.shape[0], 6, 32)
        # model.layers.1.self_attn.o
        model_layers_1_self_attn_o_y = F.linear(model_layers_1_view_5, w["model.layers.1.self_attn.o_proj.weight"])
        model_layers_1_self_attn_o_sum = model_layers_1_self_attn_o_y + model_layers_0_mlp_down_sum
        # model.layers.1.post_attention_layernorm
        model_layers_1_post_attention_layernorm_rms = rms(model_layers_1_self_attn_o_sum, 1e-6)
        model_layers_1_post_attention_layernorm_y = model_layers_1_post_attention_layernorm_rms * w["model.layers.1.post_attention_layernorm.weight"]
        # model.layers.1.gate_up.weight
        model_layers_1_gate_up_weight = torch.cat([w["model.layers.1.mlp.gate_proj.weight"], w["model.layers.1.mlp.up_proj.weight"]], 0)
        # model.layers.1.gate_up
        model_layers_1_gate_up_y = F.linear(model_layers_1_post_attention_layernorm_y, model_layers_1_gate_up_weight)
        # model.layers.1
        model_layers_1_gate = model_layers_1_gate_up_y[:, :, 0:24]
        model_layers_1_up = model_layers_1_gate_up_y[:, :, 24:]
        model_layers_1_silu = F.silu(model_layers_1_gate)
        model_layers_1_gated = model_layers_1_silu * model_layers_1_up
        # model.layers.1.mlp.down
        model_layers_1_mlp_down_y = F.linear(model_layers_1_gated, w["model.layers.1.mlp.down_proj.weight"])
        model_layers_1_mlp_down_sum = model_layers_1_mlp_down_y + model_layers_1_self_attn_o_sum
        # model.norm
        model_norm_rms = rms(model_layers_1_mlp_down_sum, 1e-6)
        model_norm_y = model_norm_rms * w["model.norm.weight"]
        # model.embed_tokens.weight
        model_embed_tokens_weight_part = w["model.embed_tokens.weight"][0:256]
        # lm_head
        targets_logits = F.linear(model_norm_y, model_embed_tokens_weight_part)
        return targets_logits


def load(path=pathlib.Path(__file__).with_name("llama_small.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
