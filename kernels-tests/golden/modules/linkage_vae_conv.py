"""image_vae, written by engine 0.1.0: images (batch, 8, 8) → reconstruction (batch, 8, 8).

    model = load()
    reconstruction = model(images)
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F

# Shapes of the weights, by their names in the file beside this one.
PARAMETERS = {
    "encoder.0.weight": (3, 1, 5, 5),
    "encoder.0.bias": (3,),
    "encoder.3.weight": (4, 3, 3, 3),
    "encoder.3.bias": (4,),
    "latent.weight": (6, 16),
    "latent.bias": (6,),
    "expand.weight": (16, 3),
    "expand.bias": (16,),
    "decoder.1.weight": (3, 4, 3, 3),
    "decoder.1.bias": (3,),
    "decoder.4.weight": (1, 3, 3, 3),
    "decoder.4.bias": (1,),
}

# What is kept with them and not trained.
BUFFERS = {}


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

    def forward(self, images):
        w = self.state_dict(keep_vars=True)
        # encoder.0
        encoder_0_view = images.reshape(images.shape[0], 8, 8, 1)
        encoder_0_y = F.conv2d(encoder_0_view.permute(0, 3, 1, 2), w["encoder.0.weight"], w["encoder.0.bias"], padding=2).permute(0, 2, 3, 1)
        encoder_0_activated = F.relu(encoder_0_y)
        # pool
        pool_pooled = F.max_pool2d(encoder_0_activated.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        # encoder.3
        encoder_3_y = F.conv2d(pool_pooled.permute(0, 3, 1, 2), w["encoder.3.weight"], w["encoder.3.bias"], padding=1).permute(0, 2, 3, 1)
        encoder_3_activated = F.relu(encoder_3_y)
        # pool
        pool_pooled_2 = F.max_pool2d(encoder_3_activated.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        pool_planes = pool_pooled_2.permute(0, 3, 1, 2)
        # latent
        latent_view = pool_planes.flatten(1)
        latent_y = F.linear(latent_view, w["latent.weight"], w["latent.bias"])
        # posterior
        posterior_mean = latent_y[:, 0:3]
        # expand
        expand_y = F.linear(posterior_mean, w["expand.weight"], w["expand.bias"])
        expand_activated = F.relu(expand_y)
        # upsample
        upsample_view = expand_activated.unflatten(1, (4, 2, 2))
        upsample_pixels = upsample_view.permute(0, 2, 3, 1)
        upsample_upsampled = upsample_pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
        # decoder.1
        decoder_1_y = F.conv2d(upsample_upsampled.permute(0, 3, 1, 2), w["decoder.1.weight"], w["decoder.1.bias"], padding=1).permute(0, 2, 3, 1)
        decoder_1_activated = F.relu(decoder_1_y)
        # upsample
        upsample_upsampled_2 = decoder_1_activated.repeat_interleave(2, 1).repeat_interleave(2, 2)
        # decoder.4
        decoder_4_y = F.conv2d(upsample_upsampled_2.permute(0, 3, 1, 2), w["decoder.4.weight"], w["decoder.4.bias"], padding=1).permute(0, 2, 3, 1)
        decoder_4_activated = torch.sigmoid(decoder_4_y)
        # reconstruction
        reconstruction = decoder_4_activated.reshape(decoder_4_activated.shape[0], 8, 8)
        return reconstruction


def load(path=pathlib.Path(__file__).with_name("linkage_vae_conv.safetensors")):
    """The model with its trained weights."""
    model = Model()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()
