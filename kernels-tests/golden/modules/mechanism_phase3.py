"""mechanism_transformer, written by engine 0.1.0: latents (batch, 50), types (batch), points (batch, 7, 2) → joints (batch, 8, 2), stop (batch, 8).

    model = load()
    joints, stop = model(latents, types, points)
"""

import math
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "latent_embedding.0.weight": (32, 50),
    "latent_embedding.0.bias": (32,),
    "latent_embedding.3.weight": (32, 32),
    "latent_embedding.3.bias": (32,),
    "latent_token": (32,),
    "latent_norm.weight": (32,),
    "latent_norm.bias": (32,),
    "joint_embedding.0.weight": (32, 128),
    "joint_embedding.0.bias": (32,),
    "joint_embedding.2.weight": (32, 32),
    "joint_embedding.2.bias": (32,),
    "type_embedding.weight": (17, 32),
    "sos": (32,),
    "position_embedding.weight": (10, 32),
    "model.layers.0.input_layernorm.weight": (32,),
    "model.layers.0.self_attn.q_proj.weight": (32, 32),
    "model.layers.0.self_attn.k_proj.weight": (32, 32),
    "model.layers.0.self_attn.v_proj.weight": (32, 32),
    "model.layers.0.self_attn.o_proj.weight": (32, 32),
    "model.layers.0.post_attention_layernorm.weight": (32,),
    "model.layers.0.mlp.gate_proj.weight": (40, 32),
    "model.layers.0.mlp.up_proj.weight": (40, 32),
    "model.layers.0.mlp.down_proj.weight": (32, 40),
    "model.layers.1.input_layernorm.weight": (32,),
    "model.layers.1.self_attn.q_proj.weight": (32, 32),
    "model.layers.1.self_attn.k_proj.weight": (32, 32),
    "model.layers.1.self_attn.v_proj.weight": (32, 32),
    "model.layers.1.self_attn.o_proj.weight": (32, 32),
    "model.layers.1.post_attention_layernorm.weight": (32,),
    "model.layers.1.mlp.gate_proj.weight": (40, 32),
    "model.layers.1.mlp.up_proj.weight": (40, 32),
    "model.layers.1.mlp.down_proj.weight": (32, 40),
    "model.norm.weight": (32,),
    "head.weight": (3, 32),
    "head.bias": (3,),
}

# What is kept with them and not trained.
BUFFERS = {
    "normalization.points.mean": (2,),
    "normalization.points.deviation": (2,),
    "constants.rope.cos": (10, 1, 4),
    "constants.rope.sin": (10, 1, 4),
    "normalization.joints.mean": (2,),
    "normalization.joints.deviation": (2,),
}


def rms(x, eps):
    """x over the root of its mean square along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def waves(phases):
    """Sines, then cosines, of phases in 64 bits."""
    return torch.cat([phases.sin(), phases.cos()], -1).float()


def steps(x, numbers):
    """Each coordinate times each number, in 64 bits."""
    return x.double()[..., None] * torch.tensor(numbers, dtype=torch.float64, device=x.device)


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

    def forward(self, latents, types, points):
        w = self.state_dict(keep_vars=True)
        # points
        points_scaled = ((points.double() - w["normalization.points.mean"]) / w["normalization.points.deviation"]).float()
        # latent_embedding.0
        latent_embedding_0_y = F.linear(latents, w["latent_embedding.0.weight"], w["latent_embedding.0.bias"])
        latent_embedding_0_activated = F.relu(latent_embedding_0_y)
        # latent_embedding.3
        latent_embedding_3_y = F.linear(latent_embedding_0_activated, w["latent_embedding.3.weight"], w["latent_embedding.3.bias"])
        # latent
        latent_sum = latent_embedding_3_y + w["latent_token"]
        # latent_norm
        latent_norm_y = F.layer_norm(latent_sum, latent_sum.shape[-1:], w["latent_norm.weight"], w["latent_norm.bias"], 1e-5)
        # joint_features
        joint_features_y = waves(math.pi * steps(points_scaled, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0, 262144.0, 524288.0, 1048576.0, 2097152.0, 4194304.0, 8388608.0, 16777216.0, 33554432.0, 67108864.0, 134217728.0, 268435456.0, 536870912.0, 1073741824.0, 2147483648.0]).fmod(2)).reshape(*points_scaled.shape[:-1], 128)
        # joint_embedding.0
        joint_embedding_0_y = F.linear(joint_features_y, w["joint_embedding.0.weight"], w["joint_embedding.0.bias"])
        joint_embedding_0_activated = F.relu(joint_embedding_0_y)
        # joint_embedding.2
        joint_embedding_2_y = F.linear(joint_embedding_0_activated, w["joint_embedding.2.weight"], w["joint_embedding.2.bias"])
        # tokens
        tokens_view = latent_norm_y.unflatten(1, (1, 32))
        tokens_type = F.embedding(types, w["type_embedding.weight"])
        tokens_view_2 = tokens_type.unflatten(1, (1, 32))
        tokens_view_3 = w["sos"].reshape(1, 1, 32)
        tokens_start = tokens_view_3.expand_as(tokens_view)
        tokens_rest = torch.cat([tokens_view_2, tokens_start, joint_embedding_2_y], 1)
        tokens_positions = w["position_embedding.weight"][0:9]
        tokens_placed = tokens_rest + tokens_positions
        tokens_y = torch.cat([tokens_view, tokens_placed], 1)
        # model.layers.0.input_layernorm
        model_layers_0_input_layernorm_rms = rms(tokens_y, 1e-6)
        model_layers_0_input_layernorm_y = model_layers_0_input_layernorm_rms * w["model.layers.0.input_layernorm.weight"]
        # model.layers.0.qkv.weight
        model_layers_0_qkv_weight = torch.cat([w["model.layers.0.self_attn.q_proj.weight"], w["model.layers.0.self_attn.k_proj.weight"], w["model.layers.0.self_attn.v_proj.weight"]], 0)
        # model.layers.0.qkv
        model_layers_0_qkv_y = F.linear(model_layers_0_input_layernorm_y, model_layers_0_qkv_weight)
        # model.layers.0
        model_layers_0_view = model_layers_0_qkv_y.reshape(model_layers_0_qkv_y.shape[0], 10, 12, 8)
        model_layers_0_queries_keys = model_layers_0_view[:, :, 0:8]
        model_layers_0_a = model_layers_0_queries_keys[:, :, :, 0:4]
        model_layers_0_b = model_layers_0_queries_keys[:, :, :, 4:]
        model_layers_0_a_cos = model_layers_0_a * w["constants.rope.cos"]
        model_layers_0_a_sin = model_layers_0_a * w["constants.rope.sin"]
        model_layers_0_b_cos = model_layers_0_b * w["constants.rope.cos"]
        model_layers_0_b_sin = model_layers_0_b * w["constants.rope.sin"]
        model_layers_0_first = model_layers_0_a_cos - model_layers_0_b_sin
        model_layers_0_second = model_layers_0_b_cos + model_layers_0_a_sin
        model_layers_0_turned = torch.cat([model_layers_0_first, model_layers_0_second], 3)
        model_layers_0_values = model_layers_0_view[:, :, 8:]
        model_layers_0_y = torch.cat([model_layers_0_turned, model_layers_0_values], 2)
        model_layers_0_view_2 = model_layers_0_y.reshape(model_layers_0_y.shape[0], 10, 3, 4, 8)
        model_layers_0_k_rows = model_layers_0_view_2[:, :, 1]
        model_layers_0_k = model_layers_0_k_rows.permute(0, 2, 1, 3)
        model_layers_0_v_rows = model_layers_0_view_2[:, :, 2]
        model_layers_0_v = model_layers_0_v_rows.permute(0, 2, 1, 3)
        model_layers_0_q_rows = model_layers_0_view_2[:, :, 0]
        model_layers_0_q = model_layers_0_q_rows.permute(0, 2, 1, 3)
        model_layers_0_heads = F.scaled_dot_product_attention(model_layers_0_q, model_layers_0_k, model_layers_0_v, is_causal=True)
        model_layers_0_attended = model_layers_0_heads.permute(0, 2, 1, 3)
        model_layers_0_view_3 = model_layers_0_attended.reshape(model_layers_0_attended.shape[0], 10, 32)
        # model.layers.0.self_attn.o
        model_layers_0_self_attn_o_y = F.linear(model_layers_0_view_3, w["model.layers.0.self_attn.o_proj.weight"])
        model_layers_0_self_attn_o_sum = model_layers_0_self_attn_o_y + tokens_y
        # model.layers.0.post_attention_layernorm
        model_layers_0_post_attention_layernorm_rms = rms(model_layers_0_self_attn_o_sum, 1e-6)
        model_layers_0_post_attention_layernorm_y = model_layers_0_post_attention_layernorm_rms * w["model.layers.0.post_attention_layernorm.weight"]
        # model.layers.0.gate_up.weight
        model_layers_0_gate_up_weight = torch.cat([w["model.layers.0.mlp.gate_proj.weight"], w["model.layers.0.mlp.up_proj.weight"]], 0)
        # model.layers.0.gate_up
        model_layers_0_gate_up_y = F.linear(model_layers_0_post_attention_layernorm_y, model_layers_0_gate_up_weight)
        # model.layers.0
        model_layers_0_gate = model_layers_0_gate_up_y[:, :, 0:40]
        model_layers_0_up = model_layers_0_gate_up_y[:, :, 40:]
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
        model_layers_1_view = model_layers_1_qkv_y.reshape(model_layers_1_qkv_y.shape[0], 10, 12, 8)
        model_layers_1_queries_keys = model_layers_1_view[:, :, 0:8]
        model_layers_1_a = model_layers_1_queries_keys[:, :, :, 0:4]
        model_layers_1_b = model_layers_1_queries_keys[:, :, :, 4:]
        model_layers_1_a_cos = model_layers_1_a * w["constants.rope.cos"]
        model_layers_1_a_sin = model_layers_1_a * w["constants.rope.sin"]
        model_layers_1_b_cos = model_layers_1_b * w["constants.rope.cos"]
        model_layers_1_b_sin = model_layers_1_b * w["constants.rope.sin"]
        model_layers_1_first = model_layers_1_a_cos - model_layers_1_b_sin
        model_layers_1_second = model_layers_1_b_cos + model_layers_1_a_sin
        model_layers_1_turned = torch.cat([model_layers_1_first, model_layers_1_second], 3)
        model_layers_1_values = model_layers_1_view[:, :, 8:]
        model_layers_1_y = torch.cat([model_layers_1_turned, model_layers_1_values], 2)
        model_layers_1_view_2 = model_layers_1_y.reshape(model_layers_1_y.shape[0], 10, 3, 4, 8)
        model_layers_1_k_rows = model_layers_1_view_2[:, :, 1]
        model_layers_1_k = model_layers_1_k_rows.permute(0, 2, 1, 3)
        model_layers_1_v_rows = model_layers_1_view_2[:, :, 2]
        model_layers_1_v = model_layers_1_v_rows.permute(0, 2, 1, 3)
        model_layers_1_q_rows = model_layers_1_view_2[:, :, 0]
        model_layers_1_q = model_layers_1_q_rows.permute(0, 2, 1, 3)
        model_layers_1_heads = F.scaled_dot_product_attention(model_layers_1_q, model_layers_1_k, model_layers_1_v, is_causal=True)
        model_layers_1_attended = model_layers_1_heads.permute(0, 2, 1, 3)
        model_layers_1_view_3 = model_layers_1_attended.reshape(model_layers_1_attended.shape[0], 10, 32)
        # model.layers.1.self_attn.o
        model_layers_1_self_attn_o_y = F.linear(model_layers_1_view_3, w["model.layers.1.self_attn.o_proj.weight"])
        model_layers_1_self_attn_o_sum = model_layers_1_self_attn_o_y + model_layers_0_mlp_down_sum
        # model.layers.1.post_attention_layernorm
        model_layers_1_post_attention_layernorm_rms = rms(model_layers_1_self_attn_o_sum, 1e-6)
        model_layers_1_post_attention_layernorm_y = model_layers_1_post_attention_layernorm_rms * w["model.layers.1.post_attention_layernorm.weight"]
        # model.layers.1.gate_up.weight
        model_layers_1_gate_up_weight = torch.cat([w["model.layers.1.mlp.gate_proj.weight"], w["model.layers.1.mlp.up_proj.weight"]], 0)
        # model.layers.1.gate_up
        model_layers_1_gate_up_y = F.linear(model_layers_1_post_attention_layernorm_y, model_layers_1_gate_up_weight)
        # model.layers.1
        model_layers_1_gate = model_layers_1_gate_up_y[:, :, 0:40]
        model_layers_1_up = model_layers_1_gate_up_y[:, :, 40:]
        model_layers_1_silu = F.silu(model_layers_1_gate)
        model_layers_1_gated = model_layers_1_silu * model_layers_1_up
        # model.layers.1.mlp.down
        model_layers_1_mlp_down_y = F.linear(model_layers_1_gated, w["model.layers.1.mlp.down_proj.weight"])
        model_layers_1_mlp_down_sum = model_layers_1_mlp_down_y + model_layers_1_self_attn_o_sum
        # model.norm
        model_norm_rms = rms(model_layers_1_mlp_down_sum, 1e-6)
        model_norm_y = model_norm_rms * w["model.norm.weight"]
        # head
        head_y = F.linear(model_norm_y, w["head.weight"], w["head.bias"])
        # joints
        joints_rows = head_y[:, 2:]
        joints_places = joints_rows[:, :, 0:2]
        joints_stretched = joints_places * w["normalization.joints.deviation"]
        joints = joints_stretched + w["normalization.joints.mean"]
        # stop
        stop = joints_rows[:, :, 2]
        return joints, stop


def load(path=pathlib.Path(__file__).with_name("mechanism_phase3.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
