"""Models of timm and MONAI by the sizes of :mod:`…training.parameters`, and their weights as safetensors.

Weights that ``pretrain-mae`` wrote are MONAI's, those of ``pretrain-dino`` timm's; their names tell which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from monai.networks.nets import MaskedAutoEncoderViT, ViT

from hdrs_hpc.workloads.training.parameters import SIZES, Parameters

_UNUSED = "norm_cross_attn"
"""MONAI's blocks have these parameters and never use them, which DistributedDataParallel would wait for."""


def masked_autoencoder(told: Parameters, mask: float) -> Any:
    """MONAI's; gives (predicted patches, mask with 1 where a patch was hidden)."""
    size = SIZES[told.model]
    made = MaskedAutoEncoderViT(
        in_channels=told.channels,
        img_size=told.shape,
        patch_size=told.token,
        hidden_size=size.width,
        mlp_dim=4 * size.width,
        num_layers=size.depth,
        num_heads=size.heads,
        masking_ratio=mask,
        decoder_hidden_size=size.decoder_width,
        decoder_mlp_dim=4 * size.decoder_width,
        decoder_num_layers=size.decoder_depth,
        decoder_num_heads=size.decoder_heads,
        pos_embed_type=_places(told),
        spatial_dims=told.dimensions,
        qkv_bias=True,
    )
    _freeze_unused(made)
    # Under autocast MONAI writes bfloat16 tokens between float32 ones, which torch refuses.
    made.decoder_embed.register_forward_hook(lambda module, given, tokens: tokens.float())
    return made


def encoder_weights(autoencoder: Any) -> dict[str, Any]:
    """The half of a masked autoencoder that is kept, by the names of MONAI's ``ViT``."""
    last = f"blocks.{len(autoencoder.blocks) - 1}."  # the norm, which ViT has apart
    kept = {}
    for name, value in autoencoder.state_dict().items():
        if name.startswith(("blocks.", "patch_embedding.", "cls_token")) and _UNUSED not in name:
            kept[f"norm.{name.removeprefix(last)}" if name.startswith(last) else name] = value
    return kept


class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch is unknown to the type checker
    """Images → (n, ``width``) features: of MONAI's ViT the mean of its tokens, of timm's its own pooling."""

    def __init__(self, told: Parameters, library: str) -> None:
        super().__init__()
        size = SIZES[told.model]
        self.width = size.width
        self.library = library
        if library == "timm":
            self.vit = backbone(told)
        else:
            self.vit = ViT(
                in_channels=told.channels,
                img_size=told.shape,
                patch_size=told.token,
                hidden_size=size.width,
                mlp_dim=4 * size.width,
                num_layers=size.depth,
                num_heads=size.heads,
                pos_embed_type=_places(told),
                classification=True,
                spatial_dims=told.dimensions,
                qkv_bias=True,
            )
            self.vit.classification_head = torch.nn.Identity()
            _freeze_unused(self.vit)

    def forward(self, images: Any) -> Any:
        if self.library == "timm":
            return self.vit(images)
        _, hidden = self.vit(images)
        return self.vit.norm(hidden[-1])[:, 1:].mean(1)


def backbone(told: Parameters) -> Any:
    """timm's, of slides; it takes images of other sizes too."""
    name = f"{told.model.replace('-', '_')}_patch16_224"
    options = {"img_size": told.size, "patch_size": told.token, "dynamic_img_size": True}
    return timm.create_model(name, num_classes=0, in_chans=told.channels, **options)


def encoder(told: Parameters, weights: Path | None) -> Encoder:
    """With these weights, or random.  Raises ValueError where weights are of another model."""
    if weights is None:
        return Encoder(told, "monai")
    loaded = safetensors.torch.load_file(weights)
    made = Encoder(told, "timm" if any(name.startswith("patch_embed.") for name in loaded) else "monai")
    wanted = {name: value.shape for name, value in made.vit.state_dict().items() if _UNUSED not in name}
    if {name: value.shape for name, value in loaded.items()} != wanted:
        raise ValueError(f"these weights are of another model, size or token than {told.model} as told here")
    made.vit.load_state_dict(loaded, strict=False)
    return made


def save(weights: dict[str, Any], path: Path) -> None:
    """As safetensors, on the CPU, float32."""
    plain = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in weights.items()}
    safetensors.torch.save_file(plain, path)


def _places(told: Parameters) -> str:
    # MONAI's sine table in 3-D wants a width that 6 divides, which ViT-L's is not.
    return "sincos" if told.dimensions == 2 else "learnable"


def _freeze_unused(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if _UNUSED in name:
            parameter.requires_grad_(False)
