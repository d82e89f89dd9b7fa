"""Measurements of any shape as planes that a two-dimensional convolution takes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def to_planes(y: Tensor, channels: int) -> Tensor:
    """``[B, c, …, H, W]`` → ``[B·n, channels, H, W]``: n planes of each image, all treated alike.

    With one channel every plane is on its own, such as the two of the k-space of a real image. With two, as for complex
    images, the two parts of a complex number stay together; what lies between them and the plane, such as coils, goes
    into the batch.

    Raises:
        ValueError: if the measurements are no planes, or their first size is not ``channels``.
    """
    if y.ndim < 4 or (channels > 1 and y.shape[1] != channels):
        raise ValueError(
            f"a measurement of {' × '.join(map(str, y.shape[1:]))} for a network of {channels} channel(s); expected "
            f"{'any sizes' if channels == 1 else channels} × … × height × width"
        )
    if channels == 1:
        return y.reshape(-1, 1, *y.shape[-2:])
    return y.movedim(1, -3).reshape(-1, channels, *y.shape[-2:])


def from_planes(planes: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of :func:`to_planes`: ``[B·n, channels, H, W]`` → ``[B, *shape]``."""
    channels = planes.shape[1]
    if channels == 1:
        return planes.reshape(-1, *shape)
    return planes.reshape(-1, *shape[1:-2], channels, *shape[-2:]).movedim(-3, 1)
