"""The hybrid: compressed sensing, its iteration with learned filters, and multi-scale networks that solve for data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, softplus

from ..baselines import Options, TotalVariation
from ..baselines.admm import ADMM
from ..baselines.iteration import CHECK_EVERY, solve
from ..baselines.method import Fit
from ..baselines.objective import Objective
from ..baselines.terms import TotalVariationTerm
from ..data.problem import Problem
from ..physics import LinearOperator
from ..physics.subset import unwrapped
from .admm_net import ADMMNet
from .blocks import reduced_precision
from .cnn import amplify, starting_at_zero
from .conditioning import CONDITIONS, conditions
from .contract import Network
from .operator_facts import mean_eigenvalue

FLIPS = ((), (-1,), (-2,), (-2, -1))
TURNS = {1: (FLIPS[:1],), 2: (FLIPS[:2], FLIPS[2:]), 4: (FLIPS,)}  # what stages average over, one after another


class Hybrid(Network):
    """A network of our own for every operator A of norm one: 162,430 parameters for real images.

    It starts from compressed sensing, fixed and learned: t is the image after a few iterations of ADMM for
    ½ ‖A x − y‖² + λ Σ |∇x|, with the λ of the best optimum on the validation images, tuned before training; x is that
    of a short :class:`ADMMNet`. Stage k of the rest is then ::

        d = direct(y − A x)
        z = x + U_k(x, d, t, c)
        x = argmin γ_k/(2μ) ‖A x − y‖² + ½ ‖x − z‖²    where this has a closed form
        x = z + γ_k/10 d                               elsewhere, as for tomography

    μ is the :func:`mean_eigenvalue` of AᵀA, for MRI the sampled fraction of k-space. d is what the measurements still
    ask for, as an image: filtered back-projection, zero filling or a Wiener filter make its gradient well conditioned.
    U_k is a small U-Net that starts at zero, c are the :func:`conditions`, kept within the range of the validation
    images: a network of one scan has not learned what to make of others (at twice its sampling rate, that cost
    3.6 dB). All is trained together, but for t.

    ``dual`` stages are those of ADMM for the split z = x, with z = u + U_k(u) as the proximal map, scaled multiplier β
    and a data step from v ::

        n = U_k(x + β, t, c)
        v = x + β + 2 n
        x = argmin γ_k/(2μ) ‖A x − y‖² + ½ ‖x − v‖², or v + γ_k/10 direct(y − A v)
        β = −n

    Every stage then knows what the one before it changed, which is worth 0.3 dB with eleven stages and nothing before
    them (``csmri-ladder`` at 20 % of k-space, 1,000 images, validation). Where γ starts, at 1 or, as in
    :class:`ADMMCSNet`, at 10, is the same to data without noise (there, 2,000 images: 33.96 and 33.98 dB); 10 costs 0.4
    after a blur and 0.2 for MRI with noise (``real-mri``, validation).

    What its parts bring is a suite, ``hybrid-ablation``, and its table is in ``docs/results.md``: without t and the
    ADMM-Net 1.3 dB (MRI) to 1.9 (tomography) are missing where data are undersampled, without the ADMM-Net alone 0.5,
    without t alone nothing; for MRI ten dual stages without both are 0.4 ahead.

    How many stages, on validation images of ``real-mri``, 2,000 steps of 1 image, networks alone: ten dual ones of
    widths 16, 24, 32 end at 33.12 dB for a quarter of the lines, five of 24, 32, 48 at 32.53 and three plain ones of
    32, 48, 48 at 31.16; the ten are 0.3 and 0.1 dB ahead of the three in super-resolution × 2 and × 4, level with them
    after a blur (28.39 and 28.41) and 0.35 behind in denoising, where there is nothing to iterate for. For tomography
    both are level after 400 steps, behind ADMM-Net.

    Where nothing is undersampled t and the ADMM-Net cost more than they bring. For images of 256² of bodies five stages
    of widths 24, 32, 48 are 0.1 dB better than three of 32, 48, 48, take a quarter longer, and t costs 0.3 after a blur
    (0 where the first stage alone sees it) and brings 0.1 at most elsewhere. Flips keep a few images from being learned
    by heart: with eighteen, after a blur and with PyTorch's own first weights, PSNR of validation images falls from the
    1,200th step on without them, from 35.99 dB to 35.87, and rises to 36.21 with two in turn, 0.16 of which are the
    means when it reconstructs: as much as with all four in twice the time; the same two in all stages bring 0.10.

    Tried and dropped, with PyTorch's own first weights: the gradient Aᵀ(y − A x) beside d (−1.5 dB), conjugate
    gradients as data steps of tomography (−1.5), features or planes that go from stage to stage (−0.5 to 0), U-Nets at
    half the resolution (−0.6 for MRI), starting from t instead of looking at it (flat), a γ that is learned on a log
    scale, where it stays between 0.4 and 1.5 (flat), t − x instead of t (−0.1 after a blur), U_k that do not see d
    where the data step has a closed form (flat after a blur), a last stage without its data step (after a blur +0.07 of
    three stages, 0 of five; −0.10 for MRI), one U-Net for all stages (after a blur five stages end at 28.16 dB with one
    and at 28.07 with five, three stages with three at 28.21), He's initial weights and a wider finest scale (after a
    blur −0.05 and −0.1, midway). A better t is a worse guide where λ is small: of 20 dB it leads to 41.0 dB for
    tomography with little noise (``do-cnns-solve-ct``, validation images), with the λ that is best for ten iterations
    of 29 dB to 40.1, after 25 iterations of 38 dB to 40.5.

    Args:
        channels: of the image; 1, or 2 for complex images.
        stages: K.
        widths: of the U-Nets, feature maps at each scale, finest first.
        sparse_stages: of the ADMM-Net; 0 starts from the direct reconstruction.
        sparse_iterations: of ADMM, a multiple of five; 0 leaves t out.
        cg_iterations: of the ADMM-Net's solves where they have no closed form.
        flips: that a reconstruction averages every U_k over: 1 is none; 2 are left and right in the first stage, both
            upside down in the second, and so on in turn; 4 are all. With 2 or 4 every U_k sees a random one of the four
            in each step of training.
        dual: the stages are those of ADMM.
        gain: of the first weights for images, over PyTorch's own. The data range of images is one, and what a network
            has to see is a hundredth of it: for ``csmri-ladder`` at 20 % of k-space ten dual stages are at 31.96 dB
            after 400 images with PyTorch's weights and at 33.16 with ten times as large ones (validation); thirty
            times are no better. Exact data are another matter, where longer trainings end far beyond 40 dB: for sharp
            phantoms of ``do-cnns-solve-ct`` both are at 35 dB after 600 steps, and at 44.6 and 37.8 after 2,400.
    """

    def __init__(
        self,
        channels: int = 1,
        stages: int = 3,
        widths: Sequence[int] = (16, 32, 48),
        sparse_stages: int = 4,
        sparse_iterations: int = 10,
        cg_iterations: int = 2,
        flips: int = 1,
        dual: bool = False,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        if (
            stages < 1
            or len(widths) < 2
            or sparse_stages < 0
            or sparse_iterations < 0
            or sparse_iterations % CHECK_EVERY
            or flips not in TURNS
        ):
            raise ValueError(
                f"Hybrid: {stages} stages of widths {tuple(widths)}, {sparse_stages} of ADMM-Net, {sparse_iterations} "
                f"iterations of ADMM, {flips} flips; expected at least 1 of 2 widths, ≥ 0, multiples of {CHECK_EVERY}, "
                "1, 2 or 4"
            )
        self.settings = {
            "network": "hybrid",
            "channels": channels,
            "stages": stages,
            "widths": list(widths),
            "sparse_stages": sparse_stages,
            "sparse_iterations": sparse_iterations,
            "cg_iterations": cg_iterations,
            **({"dual": True} if dual else {}),  # weights of before know nothing of it
        }  # without flips and gain, which change no shape
        self.sparse_iterations = sparse_iterations
        self.start = ADMMNet(sparse_stages, cg_iterations=cg_iterations) if sparse_stages else None
        seen = channels * (1 + (not dual) + bool(sparse_iterations)) + CONDITIONS
        turns = itertools.islice(itertools.cycle(TURNS[flips]), stages)
        stage = _DualStage if dual else _Stage
        self.stages = nn.ModuleList(stage(seen, channels, widths, turn, gain) for turn in turns)
        self.register_buffer("regularisation", torch.tensor(1e-3))
        self.register_buffer("lowest", torch.full((CONDITIONS,), -10.0))
        self.register_buffer("highest", torch.full((CONDITIONS,), 10.0))

    regularisation: Tensor
    lowest: Tensor
    highest: Tensor

    def prepare(self, validations: Sequence[Problem]) -> Fit:
        """Note the range of conditions, and tune λ; of several problems the geometric mean."""
        known = torch.cat([_conditions_of(problem) for problem in validations])
        self.lowest.copy_(known.amin(0))
        self.highest.copy_(known.amax(0))
        if not self.sparse_iterations:
            return Fit()
        fits = []
        for problem in validations:  # trials start from one another, so that λ is nearly that of the optimum
            method = TotalVariation(options=Options(max_iter=self.sparse_iterations, tol=1e-6))
            fits.append(method.fit(problem, problem))
        logarithms = [math.log(fit.chosen["regularisation"]) for fit in fits]
        self.regularisation.fill_(math.exp(sum(logarithms) / len(fits)))
        return Fit(
            budget=fits[0].budget,
            chosen={"regularisation": float(self.regularisation)},
            seconds=sum(fit.seconds for fit in fits),
            warnings=[text for fit in fits for text in fit.warnings],
        )

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = direct = physics.direct(y)
        if self.start is not None:
            self.start.checkpointing = self.checkpointing
            x = self.start(y, physics)
            self.show(x)
        low, high = (bound.view(-1, 1, 1).to(direct) for bound in (self.lowest, self.highest))
        known = torch.cat((self.sparse(y, physics), conditions(direct, physics).clamp(low, high)), dim=1)
        step = _DataStep(y, physics)
        multiplier = torch.zeros_like(x)
        for stage in self.stages:
            x, multiplier = self.run(stage, x, multiplier, known, step)
            self.show(x)
        return x

    def sparse(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """t, ``[B, *domain]``, or no planes at all; differentiated in y alone, which training does not ask for."""
        if not self.sparse_iterations:
            return y.new_zeros(len(y), 0, *physics.domain[1:])
        with torch.set_grad_enabled(torch.is_grad_enabled() and y.requires_grad):
            objective = Objective(physics, y, [TotalVariationTerm(float(self.regularisation))])
            return solve(ADMM(objective), 0.0, self.sparse_iterations).x


def _conditions_of(problem: Problem) -> Tensor:
    """``[images, CONDITIONS]``."""
    physics, each = problem.physics, (problem.measurement(i)[None] for i in range(len(problem)))
    return torch.cat([conditions(physics.direct(y), physics)[..., 0, 0] for y in each])


class _DataStep:
    """How an image comes nearer to its data."""

    def __init__(self, y: Tensor, physics: LinearOperator) -> None:
        self.y, self.physics, self.mean = y, physics, mean_eigenvalue(physics)
        whole, _ = unwrapped(physics)  # a part of a scan, in training without truths, takes the steps of the whole
        self.solved = whole.has_closed_prox

    def residual(self, x: Tensor) -> Tensor:
        """d."""
        return self.physics.direct(self.y - self.physics.A(x))

    def __call__(self, z: Tensor, weight: Tensor, d: Tensor | None = None) -> Tensor:
        """From z; d is that of z unless another is given."""
        if self.solved:
            return self.physics.prox_l2(z, self.y, weight / self.mean)
        return z + weight / 10 * (self.residual(z) if d is None else d)


class _Stage(nn.Module):
    """One stage. γ starts at 1: for the closed forms, whose data weigh as much as z, as in :class:`MoDL`."""

    def __init__(
        self, planes: int, channels: int, widths: Sequence[int], flips: Sequence[tuple[int, ...]], gain: float
    ) -> None:
        super().__init__()
        self.flips = flips
        self.correction = MultiScale(planes, channels, widths)
        amplify(self.correction.first, gain, planes - CONDITIONS)
        self.weight = nn.Parameter(torch.tensor(1.0).expm1().log())  # softplus keeps γ positive

    def forward(self, x: Tensor, multiplier: Tensor, known: Tensor, step: _DataStep) -> tuple[Tensor, Tensor]:
        d = step.residual(x)
        return step(x + self.correct(torch.cat((x, d, known), dim=1)), softplus(self.weight), d), multiplier

    def correct(self, planes: Tensor) -> Tensor:
        """U of planes; one of all flips at random in training, and the mean over the chosen ones from then on."""
        if len(self.flips) == 1:
            return self.correction(planes)
        if self.training:
            axes = FLIPS[int(torch.randint(len(FLIPS), ()))]
            return self.correction(planes.flip(axes)).flip(axes)
        made = self.correction(torch.cat([planes.flip(axes) for axes in self.flips]))
        parts = zip(made.chunk(len(self.flips)), self.flips, strict=True)
        return torch.stack([part.flip(axes) for part, axes in parts]).mean(0)


class _DualStage(_Stage):
    """One stage of ADMM for the split z = x, from z = u + n = prox(u) on."""

    def forward(self, x: Tensor, multiplier: Tensor, known: Tensor, step: _DataStep) -> tuple[Tensor, Tensor]:
        u = x + multiplier
        n = self.correct(torch.cat((u, known), dim=1))
        return step(u + 2 * n, softplus(self.weight)), -n  # z = u + n, β = u − z, and x fits its data near z − β


class MultiScale(nn.Module):
    """A U-Net that costs little on a processor: ``[B, inputs, H, W]`` → ``[B, outputs, H, W]``, zero at the start.

    One convolution at each scale on the way down and one on the way up; halved by strides, doubled by repetition, and
    added instead of concatenated. Images are padded to what the scales need, and cropped.

    Args:
        inputs: planes that it sees.
        outputs: planes that it makes.
        widths: feature maps at each scale, finest first.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.first = _convolution(inputs, widths[0])
        self.reduce = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.down = nn.ModuleList(_convolution(width, width) for width in widths[1:])
        self.enlarge = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.up = nn.ModuleList(_convolution(width, width) for width in widths[:-1])
        self.last = _convolution(widths[0], outputs)
        starting_at_zero(self, self.last)
        self.multiple = 2 ** len(pairs)
        self.to(memory_format=torch.channels_last)

    def forward(self, planes: Tensor) -> Tensor:
        height, width = planes.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            planes = pad(planes, (0, right, 0, below), mode="replicate")
        with reduced_precision(planes):
            made = self.scales(planes.contiguous(memory_format=torch.channels_last))
        return made.to(planes.dtype)[..., :height, :width].contiguous()

    def scales(self, planes: Tensor) -> Tensor:
        h = torch.relu(self.first(planes))
        passed = []
        for reduce, down in zip(self.reduce, self.down, strict=True):
            passed.append(h)
            h = torch.relu(down(torch.relu(reduce(h))))
        for enlarge, up in zip(reversed(self.enlarge), reversed(self.up), strict=True):
            h = torch.relu(interpolate(enlarge(h), scale_factor=2) + passed.pop())
            h = torch.relu(up(h))
        return self.last(h)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
