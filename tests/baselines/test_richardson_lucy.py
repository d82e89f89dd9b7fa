"""Richardson–Lucy: scikit-image's iterates, the laws of expectation maximisation, and data that are no counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.baselines.richardson_lucy import RichardsonLucy
from isocenter.physics import Blur, Downsample, FourierSampling, Identity, Inpaint, ParallelBeam, Radon, views
from skimage.restoration import richardson_lucy
from torch import Tensor

RADON = Radon(ParallelBeam(views(7), 17), (12, 12))


def uniform(size: int) -> Tensor:
    return torch.rand(1, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def poisson_log_likelihood(image: Tensor, y: Tensor) -> float:
    """Σ y log(A x) − A x, without what x does not change."""
    return float(torch.xlogy(y, image).sum() - image.sum())


@pytest.mark.parametrize("iterations", [1, 5, 30])
def test_equals_scikit_image(iterations: int) -> None:
    psf = torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 3.0], [1.0, 1.0, 2.0]], dtype=torch.float64) / 16
    x = torch.zeros(1, 1, 24, 24, dtype=torch.float64)  # far from the edges, where boundaries differ
    x[..., 8:14, 9:16] = uniform(7)[..., :6, :]
    A = Blur(psf, (24, 24))
    y = A.A(x).clamp_min(0)
    y[y < 1e-12] = 0
    expected = richardson_lucy(y[0, 0].numpy(), psf.numpy(), num_iter=iterations, clip=False)
    assert np.allclose(RichardsonLucy(iterations).reconstruct(y, A)[0, 0].numpy(), expected, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["radon", "blur", "inpaint"]))
def test_the_likelihood_rises_and_counts_are_kept(seed: int, kind: str) -> None:
    A = {
        "radon": RADON,
        "blur": Blur(torch.tensor([[1.0, 2.0, 1.0]]) / 4, (12, 12), "reflect"),
        "inpaint": Inpaint(torch.rand(12, 12, generator=torch.Generator().manual_seed(seed)) < 0.5),
    }[kind]
    generator = torch.Generator().manual_seed(seed)
    y = torch.poisson(A.A(3 * torch.rand(1, 1, 12, 12, generator=generator)), generator=generator).double()
    if A.support is not None:
        y = y * A.support
    last = -np.inf
    for iterations in (1, 2, 5, 20):
        x = RichardsonLucy(iterations).reconstruct(y, A)
        image = A.A(x)
        assert (x >= 0).all()
        value = poisson_log_likelihood(image.clamp_min(1e-300), y)
        assert value >= last - 1e-9 * abs(last if np.isfinite(last) else 1)
        if kind != "radon":  # a ray that meets no pixel may have counted something
            assert float(image.sum()) == pytest.approx(float(y.sum()), rel=1e-9)
        last = value


def test_consistent_data_lead_to_the_kuhn_tucker_conditions() -> None:
    x = uniform(12) + 0.1
    y = RADON.A(x)
    found = RichardsonLucy(1000).reconstruct(y, RADON)
    image = RADON.A(found)
    assert (image - y).norm() < 3e-3 * y.norm()
    ratio = torch.where(y > 0, y / image.clamp_min(1e-12), 0.0)
    gain = RADON.A_adjoint(ratio) / RADON.A_adjoint((y > 0).double())
    assert torch.allclose(gain, torch.ones_like(gain), atol=1e-2)  # x > 0: the gradient vanishes


def test_negative_measurements_count_as_zero_and_unseen_pixels_are_zero() -> None:
    y = uniform(8) - 0.5
    A = Identity((1, 8, 8))
    assert torch.allclose(RichardsonLucy(3).reconstruct(y, A), y.clamp_min(0))
    mask = torch.arange(64).reshape(8, 8) % 2 == 0
    assert torch.equal(RichardsonLucy(3).reconstruct(y.abs() * mask, Inpaint(mask)) == 0, (~mask).expand(1, 1, 8, 8))
    assert torch.equal(RichardsonLucy(3).reconstruct(-y.abs(), A), torch.zeros_like(y))


def test_a_constant_image_is_found_at_once() -> None:
    for A in (RADON, Blur(torch.ones(3, 3) / 9, (12, 12), "valid")):
        flat = torch.full((1, 1, 12, 12), 0.7, dtype=torch.float64)
        found = RichardsonLucy(1).reconstruct(A.A(flat), A)
        assert torch.allclose(found, flat, atol=1e-6)


@pytest.mark.parametrize(
    ("A", "why"),
    [
        (Downsample((8, 8), 2), "negative entries"),
        (FourierSampling(torch.ones(8, 8)), "negative entries"),
        (FourierSampling(torch.ones(8, 8), complex_image=True), "complex"),
    ],
)
def test_what_is_no_emission_is_refused(A: Downsample | FourierSampling, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        RichardsonLucy(3).reconstruct(torch.ones(1, *A.range), A)
    assert "\n" not in str(error.value)
