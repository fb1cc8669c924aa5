"""Models of timm and open_clip that are offered by name, and where their weights are.

Any other architecture of these packages is loaded from a weights file, too; these are
the ones whose weights are fetched. The figures are those of the packages; a test
compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EXTRAS", "HUB_MODELS", "HubModel"]

EXTRAS = {"timm": "timm", "open_clip": "open-clip"}
"""Package of our optional extra by the first part of an encoder's name."""


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """One model with published weights.

    Attributes
    ----------
    encoder_name
        "timm/NAME" or "open_clip/NAME", NAME being the package's own.
    title, description
        For people.
    dim
        Length of a vector.
    input_size
        Side in pixels that images are cut to.
    repository, file_name
        Where the weights are on the Hugging Face hub.
    size_mb
        Size of the download in MB.
    """

    encoder_name: str
    title: str
    description: str
    dim: int
    input_size: int = 224
    repository: str
    file_name: str = "model.safetensors"
    size_mb: int

    @property
    def package(self) -> str:
        """The package that has it: timm or open_clip."""
        return self.encoder_name.partition("/")[0]


HUB_MODELS = (
    HubModel(
        encoder_name="timm/vit_small_patch14_dinov2",
        title="DINOv2 small",
        description=(
            "Learned without labels from 142 million images; among the best for "
            "finding similar images, also of cells and materials."
        ),
        dim=384,
        repository="timm/vit_small_patch14_dinov2.lvd142m",
        size_mb=88,
    ),
    HubModel(
        encoder_name="timm/vit_base_patch14_dinov2",
        title="DINOv2 base",
        description="As DINOv2 small, finer and about four times slower.",
        dim=768,
        repository="timm/vit_base_patch14_dinov2.lvd142m",
        size_mb=346,
    ),
    HubModel(
        encoder_name="open_clip/ViT-B-32",
        title="CLIP ViT-B/32",
        description=(
            "Learned from images with their captions, so that images can be found by "
            "words; the quickest of its kind."
        ),
        dim=512,
        repository="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        file_name="open_clip_model.safetensors",
        size_mb=605,
    ),
    HubModel(
        encoder_name="open_clip/ViT-B-16",
        title="CLIP ViT-B/16",
        description="As CLIP ViT-B/32, finer and about four times slower.",
        dim=512,
        repository="laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        file_name="open_clip_model.safetensors",
        size_mb=599,
    ),
)
