"""Transformations of images, random ones and finite groups, in torch alone: batched, differentiable, on the images' device."""

from .affine import Affine, AffineTransform, Rotation, Scale, Shear, Translation
from .base import Custom, Transform, as_transform
from .finite import Finite, Frozen, Listed
from .groups import CyclicShifts, FlipGroup, Group, Product, RotationGroup
from .pixels import AdditiveNoise, Compose, CropWithPadding, HorizontalFlip, VerticalFlip

__all__ = [
    "AdditiveNoise",
    "Affine",
    "AffineTransform",
    "Compose",
    "CropWithPadding",
    "Custom",
    "CyclicShifts",
    "Finite",
    "FlipGroup",
    "Frozen",
    "Group",
    "HorizontalFlip",
    "Listed",
    "Product",
    "Rotation",
    "RotationGroup",
    "Scale",
    "Shear",
    "Transform",
    "Translation",
    "VerticalFlip",
    "as_transform",
]
