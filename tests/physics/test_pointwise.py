"""Denoising and inpainting."""

from __future__ import annotations

import pytest
import torch
from isocenter.physics import LinearOperator, check_linear_operator
from isocenter.physics.pointwise import Identity, Inpaint
from scipy import ndimage

SIZES = [(8, 8), (7, 9), (1, 4), (3, 5, 6)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["identity", "inpaint"])
def test_pointwise_operators_keep_the_laws_and_have_a_closed_prox(size, kind) -> None:
    operator = Identity(size) if kind == "identity" else Inpaint(torch.rand(size) < 0.5)
    check_linear_operator(operator)
    z, y = (torch.randn(2, *operator.domain, dtype=torch.float64) for _ in range(2))
    for gamma in (3.0, torch.tensor([0.2, 50.0], dtype=torch.float64).view(2, 1, 1, 1)):
        expected = LinearOperator.prox_l2(operator, z, y, gamma, tol=1e-14)
        torch.testing.assert_close(operator.prox_l2(z, y, gamma), expected, rtol=1e-12, atol=1e-12)


def test_a_measurement_is_never_the_image_itself() -> None:
    x = torch.ones(1, 1, 4, 4)
    Identity((4, 4)).A(x).zero_()
    assert bool(x.all())


def test_norms() -> None:
    assert Identity((4, 4)).norm == Inpaint(torch.eye(4)).norm == 1.0
    assert Inpaint(torch.zeros(4, 4)).norm == 0.0


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_holes_are_filled_and_seen_pixels_are_kept(size) -> None:
    smooth = ndimage.gaussian_filter(torch.randn(size, dtype=torch.float64).numpy(), 4.0, mode="wrap")
    x = torch.from_numpy(smooth / smooth.std())[None, None]
    mask = torch.rand(size) < 0.4
    mask[10:14, 10:14] = False
    image = Inpaint(mask).direct(x * mask)
    assert torch.equal(image[..., mask], x[..., mask])
    nearest = ndimage.distance_transform_edt(~mask.numpy(), return_distances=False, return_indices=True)
    filled = x[0, 0][nearest[0], nearest[1]]
    assert (image - x).square().mean() < (filled - x).square().mean()  # better than the nearest seen pixel
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(Inpaint(mask).direct(flat * mask), flat)


def test_nothing_seen_is_filled_with_zero() -> None:
    assert not Inpaint(torch.zeros(5, 6)).direct(torch.ones(2, 1, 5, 6)).any()


def test_a_mask_with_other_values_is_refused() -> None:
    with pytest.raises(ValueError, match="Inpaint: the mask"):
        Inpaint(torch.full((4, 4), 0.5))
