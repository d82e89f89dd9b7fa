"""Projection by calls of ASTRA, on the CPU or the GPU, without a matrix and without copies."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import astra
import astra.experimental
import numpy as np
import torch
from torch import Tensor

from .geometry import Geometry
from .projection_matrix import astra_kernel, astra_projections, astra_volume


class AstraProjector:
    """Forward and back-projection by ASTRA's kernels in float32.

    On the CPU the views are dealt out to as many threads as torch uses: ASTRA releases the interpreter's lock, and a
    single image gains as much as a batch. There the back-projection is the adjoint up to the rounding of float32 sums;
    on the GPU it is another discretisation.

    Args:
        geometry, image_shape, pixel_size: as in :class:`Radon`.
        kernel: of the CPU; None computes on the GPU with ASTRA's interpolating kernel.
    """

    def __init__(self, geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, kernel: str | None) -> None:
        if kernel is None and not (torch.cuda.is_available() and astra.use_cuda()):
            raise ValueError(
                "Radon: backend 'cuda' needs an NVIDIA GPU that torch and ASTRA see, and there is none; use 'auto'"
            )
        self.geometry, self.image_shape, self.pixel_size, self.kernel = geometry, image_shape, pixel_size, kernel
        self._handles: list[tuple[np.ndarray, int]] = []

    def project(self, x: Tensor) -> Tensor:
        """``[B, 1, H, W]`` → ``[B, 1, views, detectors]``."""
        images, blocks = self._ready(x), self._blocks()
        shape = (len(images), len(self.geometry.angles), self.geometry.detectors)
        y = torch.empty(shape, dtype=torch.float32, device=images.device)

        def block(views: np.ndarray, handle: int) -> None:
            lines = torch.empty(len(views), shape[2], dtype=torch.float32, device=images.device)
            for image, result in zip(images, y, strict=True):
                astra.experimental.direct_FP2D(handle, vol=image, proj=lines)
                result[views] = lines

        self._run([partial(block, *b) for b in blocks])
        return y[:, None].to(x)

    def back_project(self, y: Tensor) -> Tensor:
        """``[B, 1, views, detectors]`` → ``[B, 1, H, W]``."""
        sinograms, blocks = self._ready(y), self._blocks()
        parts = torch.zeros(len(blocks), len(sinograms), *self.image_shape, device=sinograms.device)

        def block(part: Tensor, views: np.ndarray, handle: int) -> None:
            for sinogram, result in zip(sinograms, part, strict=True):
                astra.experimental.direct_BP2D(handle, vol=result, proj=sinogram[views].contiguous())

        self._run([partial(block, part, *b) for part, b in zip(parts, blocks, strict=True)])
        return parts.sum(0)[:, None].to(y)

    def _ready(self, tensor: Tensor) -> Tensor:
        device = "cuda" if self.kernel is None else "cpu"
        return tensor.detach()[:, 0].to(device, torch.float32).contiguous()

    def _run(self, tasks: list[Callable[[], None]]) -> None:
        if len(tasks) == 1:
            return tasks[0]()
        with ThreadPoolExecutor(len(tasks)) as pool:
            for future in [pool.submit(task) for task in tasks]:
                future.result()
        return None

    def _blocks(self) -> list[tuple[np.ndarray, int]]:
        """Views and ASTRA projector of each thread, made when first used: ASTRA's handles belong to one process."""
        if not self._handles:
            threads = 1 if self.kernel is None else torch.get_num_threads()
            volume = astra_volume(self.image_shape, self.pixel_size)
            name = "cuda" if self.kernel is None else astra_kernel(self.geometry, self.kernel)
            views = np.arange(len(self.geometry.angles))
            handles = []
            for part in np.array_split(views, min(threads, len(views))):
                handle = astra.create_projector(name, astra_projections(self.geometry, part.tolist()), volume)
                weakref.finalize(self, astra.projector.delete, handle)
                handles.append((part, handle))
            self._handles = handles
        return self._handles

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": []}
