"""Frozen image features: EfficientNet-lite0 cut at stride 8, batch normalisation folded in."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from shopfloor.policies.encoders.weights import plain_tensors

MODEL = "EfficientNet-lite0"
FILE = "models/efficientnet-lite0-57934424.pth"
CHANNELS = 40
BATCH = 8  # larger batches fall out of cache on a CPU
FEATURE_SCALE = 8.0  # brings the maps' values to about unit size
BATCH_NORM_EPSILON = 1e-3  # of the TensorFlow release

# (block index in the release, kernel, stride), up to the first map of 40 channels
_BLOCKS = ((0, 3, 1), (1, 3, 2), (2, 3, 1), (3, 5, 2), (4, 5, 1))

_Convolution = tuple[torch.Tensor, torch.Tensor]


def _fold(tensors: dict[str, torch.Tensor], convolution: str, norm: str) -> _Convolution:
    scale = tensors[f"{norm}.weight"] / torch.sqrt(
        tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON
    )
    weight = tensors[f"{convolution}.weight"] * scale[:, None, None, None]
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    return weight.contiguous(memory_format=torch.channels_last), bias


@cache
def _layers() -> dict[str, _Convolution]:
    tensors = plain_tensors(MODEL, FILE)
    layers = {"stem": _fold(tensors, "_conv_stem", "_bn0")}
    for index, _, _ in _BLOCKS:
        block = f"_blocks.{index}"
        if f"{block}._expand_conv.weight" in tensors:
            layers[f"{index}.expand"] = _fold(tensors, f"{block}._expand_conv", f"{block}._bn0")
        layers[f"{index}.depthwise"] = _fold(tensors, f"{block}._depthwise_conv", f"{block}._bn1")
        layers[f"{index}.project"] = _fold(tensors, f"{block}._project_conv", f"{block}._bn2")
    return layers


def _same_pad(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Pad as TensorFlow's SAME does: the odd pixel goes to the right and the bottom."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


def _forward(x: torch.Tensor) -> torch.Tensor:
    layers = _layers()
    x = functional.relu6(functional.conv2d(_same_pad(x, 3, 2), *layers["stem"], stride=2))
    for index, kernel, stride in _BLOCKS:
        y = x
        if f"{index}.expand" in layers:
            y = functional.relu6(functional.conv2d(y, *layers[f"{index}.expand"]))
        weight, bias = layers[f"{index}.depthwise"]
        y = functional.conv2d(
            _same_pad(y, kernel, stride), weight, bias, stride=stride, groups=weight.shape[0]
        )
        y = functional.conv2d(functional.relu6(y), *layers[f"{index}.project"])
        x = x + y if y.shape == x.shape else y

    return x


def map_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of the feature map of an image of (height, width) pixels."""
    height, width = image_size
    for _ in range(3):  # three strides of two
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def encode(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Encode pictures.

    Args:
        images: shape (N, height, width, 3), uint8, RGB.

    Returns:
        Shape (N, rows * columns, 40), float32: one row of features per map cell, row by row.
    """
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH]))
            x = (
                ((batch.float() - 127.0) / 128.0)
                .permute(0, 3, 1, 2)
                .contiguous(memory_format=torch.channels_last)
            )

            outputs.append(
                _forward(x).permute(0, 2, 3, 1).reshape(len(batch), -1, CHANNELS) / FEATURE_SCALE
            )

    return torch.cat(outputs).clone() if outputs else torch.zeros(0, 0, CHANNELS)
