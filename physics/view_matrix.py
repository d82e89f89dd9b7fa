"""Projection and back-projection of batches by a sparse matrix that serves several symmetric views."""

from __future__ import annotations

import warnings

import torch
from scipy import sparse
from torch import Tensor

from .view_symmetry import ViewSymmetry, apply_element, apply_inverse

# Columns of one sparse product. Measured: 16 float32 columns are one or two cache lines of each operand; with 64 the
# operand of a 256² image no longer stays in the cache and the product takes three times as long a column.
COLUMNS = 16


class _Compressed(torch.nn.Module):
    """A sparse matrix as CSR buffers with 32-bit indices, so that it moves between devices with its owner."""

    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        super().__init__()
        self.shape = matrix.shape
        self.register_buffer("rows", torch.from_numpy(matrix.indptr.astype("int32")), persistent=False)
        self.register_buffer("columns", torch.from_numpy(matrix.indices.astype("int32")), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data.astype("float32")), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """Product with ``[N, columns]``, in the dtype of the dense operand."""
        values = self.values.to(dense.dtype)
        # Under autocast the product would be one of half precision, which CPUs do not have.
        with warnings.catch_warnings(), torch.autocast(dense.device.type, enabled=False):
            # The products used here are stable; the notice is about the layout at large.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(self.rows, self.columns, values, self.shape, check_invariants=False)
            return matrix @ dense


class ViewMatrix(torch.nn.Module):
    """The linear map from images to sinograms that a matrix for the representative views stands for.

    Both directions use the same coefficients, so that one is the adjoint of the other up to rounding.

    Args:
        matrix: rows (representative view, detector), columns the pixels.
        symmetry: how the representatives serve all views.
        image_shape: (H, W).
        detectors: elements of a view.
    """

    rows: Tensor
    measured: Tensor

    def __init__(
        self, matrix: sparse.csr_matrix, symmetry: ViewSymmetry, image_shape: tuple[int, int], detectors: int
    ) -> None:
        super().__init__()
        self.symmetry, self.image_shape, self.detectors = symmetry, image_shape, detectors
        self.matrix, self.transpose = _Compressed(matrix), _Compressed(matrix.T.tocsr())
        self.register_buffer("rows", symmetry.rows(detectors), persistent=False)
        self._distinct = len(self.rows.unique()) == len(self.rows)
        # How often each line is measured: the representatives serve a few views more than there are, or one twice.
        measured = torch.bincount(self.rows, minlength=matrix.shape[0] * len(symmetry.elements))
        self.register_buffer("measured", measured.to(torch.int32)[:, None], persistent=False)

    @property
    def nbytes(self) -> int:
        return sum(b.numel() * b.element_size() for b in self.buffers())

    def project(self, x: Tensor) -> Tensor:
        """``[B, 1, H, W]`` → ``[B, 1, views, detectors]``."""
        return torch.cat([self._project(part) for part in x.split(self._images_at_once)])

    def back_project(self, y: Tensor) -> Tensor:
        """``[B, 1, views, detectors]`` → ``[B, 1, H, W]``, the adjoint of :meth:`project`."""
        return torch.cat([self._back_project(part) for part in y.split(self._images_at_once)])

    def normal(self, x: Tensor) -> Tensor:
        """Back-projection of the projection, ``[B, 1, H, W]``, whose sinogram is never put in order."""
        return torch.cat([self._normal(part) for part in x.split(self._images_at_once)])

    @property
    def _images_at_once(self) -> int:
        return max(1, COLUMNS // len(self.symmetry.elements))

    def _project(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        lines = self._lines(x).reshape(-1, batch)
        return lines.index_select(0, self.rows).T.reshape(batch, 1, -1, self.detectors)

    def _lines(self, x: Tensor) -> Tensor:
        """All lines of all representative views, ``[representative · detector, element · B]``."""
        elements = self.symmetry.elements
        pixels = x[:, 0].permute(1, 2, 0).contiguous()
        turned = x.new_empty(*self.image_shape, len(elements), x.shape[0])
        for e, element in enumerate(elements):
            turned[:, :, e] = apply_element(pixels, element)
        return self.matrix(turned.flatten(0, 1).flatten(1))

    def _back_project(self, y: Tensor) -> Tensor:
        batch = y.shape[0]
        lines = y.new_zeros(self.matrix.shape[0] * len(self.symmetry.elements), batch)
        # index_add_ is right always; views that measure the same lines are rare and index_copy_ is faster.
        (lines.index_copy_ if self._distinct else lines.index_add_)(0, self.rows, y.flatten(1).T)
        return self._image(lines.reshape(self.matrix.shape[0], -1))

    def _normal(self, x: Tensor) -> Tensor:
        lines = self._lines(x)
        return self._image((lines.view(-1, x.shape[0]) * self.measured.to(x.dtype)).view_as(lines))

    def _image(self, lines: Tensor) -> Tensor:
        """The adjoint of :meth:`_lines`."""
        elements = self.symmetry.elements
        turned = self.transpose(lines).view(*self.image_shape, len(elements), -1)
        image = apply_inverse(turned[:, :, 0], elements[0])
        for e, element in enumerate(elements[1:], start=1):
            image = image + apply_inverse(turned[:, :, e], element)
        return image.permute(2, 0, 1)[:, None].contiguous()
