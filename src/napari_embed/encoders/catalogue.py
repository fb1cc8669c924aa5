"""The torchvision models that are offered, with weights and preprocessing.

The figures are those of torchvision's own default weights (``DEFAULT`` of each weights
enumeration). They are repeated here so that the list can be shown without importing
torchvision; a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TORCHVISION_MODELS", "TorchvisionModel"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class TorchvisionModel:
    """One model: where its weights are and what it expects.

    Attributes
    ----------
    model
        Name in torchvision.
    title, description
        For people.
    dim
        Length of the penultimate features.
    file_name
        Name of the weights file; it carries the first 8 hex digits of the SHA-256.
    size_mb
        Size of the download in MB.
    resize_size, crop_size
        The shorter side is brought to the first, the centre cut to the second.
    interpolation
        "bilinear" or "bicubic", antialiased.
    head
        The module that turns features into classes; it is taken off.
    sha256
        Full checksum where it is known, else empty.
    """

    model: str
    title: str
    description: str
    dim: int
    file_name: str
    size_mb: int
    resize_size: int
    crop_size: int = 224
    interpolation: str = "bilinear"
    head: str
    sha256: str = ""

    @property
    def encoder_name(self) -> str:
        """Name in the registry of encoders."""
        return f"torchvision/{self.model}"

    @property
    def url(self) -> str:
        """Where torchvision publishes the weights."""
        return f"https://download.pytorch.org/models/{self.file_name}"

    @property
    def sha256_prefix(self) -> str:
        """The first hex digits of the SHA-256, from the file name."""
        return self.file_name.rsplit("-", 1)[1].removesuffix(".pth")


TORCHVISION_MODELS: tuple[TorchvisionModel, ...] = (
    TorchvisionModel(
        model="vit_b_16",
        title="Vision Transformer B/16",
        description="Strong general features for photographs; wants a GPU.",
        dim=768,
        file_name="vit_b_16-c867db91.pth",
        size_mb=346,
        resize_size=256,
        head="heads",
    ),
    TorchvisionModel(
        model="vit_b_32",
        title="Vision Transformer B/32",
        description="Like B/16 with coarser patches: about four times faster.",
        dim=768,
        file_name="vit_b_32-d86f8d99.pth",
        size_mb=353,
        resize_size=256,
        head="heads",
    ),
    TorchvisionModel(
        model="vit_l_16",
        title="Vision Transformer L/16",
        description="The largest transformer here; slow and large, needs a GPU.",
        dim=1024,
        file_name="vit_l_16-852ce7e3.pth",
        size_mb=1217,
        resize_size=242,
        head="heads",
    ),
    TorchvisionModel(
        model="swin_t",
        title="Swin Transformer Tiny",
        description="A good balance of detail and speed for photographs.",
        dim=768,
        file_name="swin_t-704ceda3.pth",
        size_mb=113,
        resize_size=232,
        interpolation="bicubic",
        head="head",
    ),
    TorchvisionModel(
        model="swin_s",
        title="Swin Transformer Small",
        description="More accurate than Tiny on ImageNet, about half as fast.",
        dim=768,
        file_name="swin_s-5e29d889.pth",
        size_mb=199,
        resize_size=246,
        interpolation="bicubic",
        head="head",
    ),
    TorchvisionModel(
        model="swin_v2_t",
        title="Swin Transformer V2 Tiny",
        description="Second version of Swin Tiny, with a larger input of 256 pixels.",
        dim=768,
        file_name="swin_v2_t-b137f0e2.pth",
        size_mb=114,
        resize_size=260,
        crop_size=256,
        interpolation="bicubic",
        head="head",
    ),
    TorchvisionModel(
        model="convnext_tiny",
        title="ConvNeXt Tiny",
        description="A modern convolutional network, strong on photographs.",
        dim=768,
        file_name="convnext_tiny-983f1562.pth",
        size_mb=114,
        resize_size=236,
        head="classifier.2",
    ),
    TorchvisionModel(
        model="convnext_small",
        title="ConvNeXt Small",
        description="More accurate than Tiny on ImageNet, about half as fast.",
        dim=768,
        file_name="convnext_small-0c510722.pth",
        size_mb=201,
        resize_size=230,
        head="classifier.2",
    ),
    TorchvisionModel(
        model="convnext_base",
        title="ConvNeXt Base",
        description="The most accurate ConvNeXt here; wants a GPU.",
        dim=1024,
        file_name="convnext_base-6075fbad.pth",
        size_mb=354,
        resize_size=232,
        head="classifier.2",
    ),
    TorchvisionModel(
        model="efficientnet_b0",
        title="EfficientNet B0",
        description="Small and quick, good features for its size.",
        dim=1280,
        file_name="efficientnet_b0_rwightman-7f5810bc.pth",
        size_mb=21,
        resize_size=256,
        interpolation="bicubic",
        head="classifier.1",
    ),
    TorchvisionModel(
        model="efficientnet_v2_s",
        title="EfficientNet V2 Small",
        description="Large input of 384 pixels: for pictures with fine detail.",
        dim=1280,
        file_name="efficientnet_v2_s-dd5fe13b.pth",
        size_mb=87,
        resize_size=384,
        crop_size=384,
        head="classifier.1",
    ),
    TorchvisionModel(
        model="resnet18",
        title="ResNet-18",
        description="The small classic: quick, modest accuracy.",
        dim=512,
        file_name="resnet18-f37072fd.pth",
        size_mb=47,
        resize_size=256,
        head="fc",
    ),
    TorchvisionModel(
        model="resnet50",
        title="ResNet-50",
        description="The common baseline of the literature.",
        dim=2048,
        file_name="resnet50-11ad3fa6.pth",
        size_mb=103,
        resize_size=232,
        head="fc",
    ),
    TorchvisionModel(
        model="mobilenet_v3_large",
        title="MobileNet V3 Large",
        description="Made for phones: the quickest of the torchvision models here.",
        dim=1280,
        file_name="mobilenet_v3_large-5c1a4163.pth",
        size_mb=22,
        resize_size=232,
        head="classifier.3",
    ),
)
