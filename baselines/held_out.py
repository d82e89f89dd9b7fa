"""Measurements of which a part is withheld, so that a reconstruction of the rest can be judged by predicting it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..physics import FourierSampling, Identity, Inpaint, LinearOperator, MultiCoilSampling, Radon
from ..physics.subset import Subset, unwrapped

SHARE = 0.1
CENTRE = 2  # lines from the zero frequency that are never withheld: nothing else predicts them


def hold_out(physics: LinearOperator, seed: int = 0) -> tuple[LinearOperator, Tensor]:
    """Withhold a tenth of what is measured, the same for every image.

    Whole views of a sinogram; of k-space whole lines where its mask consists of them, else single samples, never its
    centre; of anything else single entries, of all channels at once.

    Returns:
        The operator of what is kept, of the same range with zeros elsewhere, and what is withheld: booleans of the
        shape of the range.

    Raises:
        ValueError: where nothing can be withheld.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = torch.ones(physics.range, dtype=torch.bool, device=physics._device_holder.device)
    if physics.support is not None:
        seen = seen & physics.support
    whole, _ = unwrapped(physics)
    if isinstance(whole, Radon):
        withheld = _draw(seen[0].any(1, keepdim=True), generator)
    elif isinstance(whole, FourierSampling | MultiCoilSampling):
        withheld = _samples(seen.flatten(0, -3).any(0), generator)
    else:
        plane = physics.range[-2:] if len(physics.range) > 2 else physics.range
        withheld = _draw(seen.reshape(-1, *plane).any(0), generator)
    # Pixels that are kept have the closed forms of inpainting.
    pixels = isinstance(physics, Identity | Inpaint)
    return Inpaint(seen & ~withheld) if pixels else Subset(physics, ~withheld), withheld & seen


def _samples(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Samples of k-space: whole columns or rows where the mask consists of them."""
    near = [(torch.arange(n, device=mask.device) - n // 2).abs() <= CENTRE for n in mask.shape]
    for along, across in ((0, 1), (1, 0)):
        if torch.equal(mask.all(along), mask.any(along)):
            return mask & _draw(mask.all(along) & ~near[across], generator).unsqueeze(along)
    return _draw(mask & ~(near[0][:, None] & near[1]), generator)


def _draw(eligible: Tensor, generator: torch.Generator) -> Tensor:
    """A tenth of what is eligible, at least one: booleans of the same shape."""
    places = eligible.flatten().nonzero()[:, 0]
    count = max(1, round(SHARE * len(places)))
    if count >= len(places):
        raise ValueError(
            f"rule held-out: of {len(places)} views, lines or entries none can be spared; choose another rule"
        )
    chosen = places[torch.randperm(len(places), generator=generator)[:count].to(places.device)]
    drawn = torch.zeros_like(eligible).flatten()
    drawn[chosen] = True
    return drawn.reshape(eligible.shape)
