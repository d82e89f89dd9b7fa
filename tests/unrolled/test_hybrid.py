"""The hybrid network, and the convex programme that may have the last word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from isocenter.baselines import Options, PriorImage, ReweightedTotalVariation, TotalVariation
from isocenter.baselines.steps import ADMMState, admm_step
from isocenter.benchmarks.trained_then_tuned_specs import HybridSpec
from isocenter.physics import Blur, FourierSampling, LinearOperator, Normalised, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.unrolled import ADMMNet, Hybrid, LearnedMethod, Training
from isocenter.unrolled.conditioning import conditions
from isocenter.unrolled.hybrid import FLIPS, MultiScale
from isocenter.unrolled.trained_then_tuned import TrainedThenTuned

SHAPE = (16, 20)


def scan() -> LinearOperator:
    return Radon(ParallelBeam(views(9), 27), SHAPE)


def test_untrained_it_is_proximal_point_iteration_where_data_steps_are_solved() -> None:
    """As MoDL with nothing learned: x ← prox(x), from the direct reconstruction."""
    physics = Normalised(FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=True))
    y = physics.A(torch.randn(2, 2, *SHAPE))
    expected = physics.direct(y)
    gain = float(physics.normal_spectrum.mean())
    for _ in range(3):
        expected = physics.prox_l2(expected, y, 1 / gain)
    network = Hybrid(2, stages=3, sparse_stages=0, sparse_iterations=0)
    torch.testing.assert_close(network(y, physics), expected)


def test_untrained_it_goes_on_from_admm_net_with_filtered_back_projection_of_the_residual() -> None:
    physics = Normalised(scan())
    y = physics.A(torch.rand(2, 1, *SHAPE))
    expected = ADMMNet(2, cg_iterations=4)(y, physics)
    for _ in range(3):
        expected = expected + 0.1 * physics.direct(y - physics.A(expected))
    torch.testing.assert_close(Hybrid(stages=3, sparse_stages=2, cg_iterations=4)(y, physics), expected)


@pytest.mark.parametrize("solved", [True, False])
def test_dual_stages_are_those_of_admm(solved: bool) -> None:
    """With a soft threshold in the place of x + U(x), from the direct reconstruction on."""
    physics = Normalised(Blur(torch.ones(3, 3) / 9, SHAPE) if solved else scan())
    y = physics.A(torch.rand(2, 1, *SHAPE))
    network = Hybrid(stages=3, widths=(4, 8), sparse_stages=0, sparse_iterations=0, dual=True)
    for stage in network.stages:
        stage.correct = lambda planes: soft(planes[:, :1]) - planes[:, :1]
    gain = float(physics.normal_spectrum.mean())

    def solve(v: torch.Tensor) -> torch.Tensor:
        return physics.prox_l2(v, y, 1 / gain) if solved else v + 0.1 * physics.direct(y - physics.A(v))

    start = physics.direct(y)
    state = admm_step(ADMMState(start, start, torch.zeros_like(start)), lambda v: v, soft)
    for _ in range(2):
        state = admm_step(state, solve, soft)
    torch.testing.assert_close(network(y, physics), solve(state.z - state.u))


def soft(v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.softshrink(v, 0.1)


@pytest.mark.parametrize("make", [scan, lambda: Blur(torch.ones(3, 3) / 9, SHAPE)])
def test_every_stage_sees_the_iterate_of_total_variation(make) -> None:
    physics = Normalised(make())
    y = physics.A(torch.rand(1, 1, *SHAPE))
    network = Hybrid(stages=2, widths=(4, 8))
    network.regularisation.fill_(3e-3)
    seen: list[torch.Tensor] = []
    for stage in network.stages:
        stage.correction.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(y, physics)
    with pytest.warns(UserWarning, match="stopped after 10"):
        expected = TotalVariation(3e-3, options=Options(tol=1e-9, max_iter=10)).reconstruct(y, physics)
    for planes in seen:
        torch.testing.assert_close(planes[:, 2:3], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(planes[:, 3:], conditions(physics.direct(y), physics))


def test_preparing_tunes_the_weight_of_total_variation(boxes) -> None:
    physics = scan()
    method = LearnedMethod(
        lambda channels: Hybrid(channels, stages=1, widths=(4, 8)), Training(steps=2, batch=2, validate_every=2)
    )
    fit = method.fit(boxes(physics, 4, "train"), boxes(physics, 3, "validation"))
    chosen = fit.chosen["regularisation"]
    assert float(method.network.regularisation) == pytest.approx(chosen)
    assert "2 steps of 2 images after 12 values of regularisation" in fit.budget
    validation = boxes(physics, 3, "validation")
    alone = TotalVariation(options=Options(tol=1e-9, max_iter=10)).fit(validation, validation)
    assert chosen == pytest.approx(alone.chosen["regularisation"], rel=1e-3)


def test_conditions_stay_in_the_range_of_the_validation_images(boxes) -> None:
    """Of a scan with other views and of another noise, the network is told what it knows."""
    physics, validation = scan(), boxes(scan(), 3, "validation")
    method = LearnedMethod(
        lambda channels: Hybrid(channels, stages=1, widths=(4, 8)), Training(steps=2, batch=2, validate_every=2)
    )
    method.fit(boxes(physics, 4, "train"), validation)
    seen: list[torch.Tensor] = []
    method.network.stages[0].correction.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 3:]))
    _, y = validation.batch(range(3))
    method.reconstruct(y, physics)
    in_units = y / (validation.data_range * physics.norm)
    known = conditions(Normalised(physics).direct(in_units), Normalised(physics))
    torch.testing.assert_close(seen.pop(), known)
    more = Radon(ParallelBeam(views(18), 27), SHAPE)
    method.reconstruct(more.A(torch.rand(2, 1, *SHAPE)), more)
    low, high = known.amin((0, 2, 3)), known.amax((0, 2, 3))
    told = seen.pop().amin((0, 2, 3))
    assert torch.all((told >= low - 1e-6) & (told <= high + 1e-6))
    assert float(told[1]) == pytest.approx(float(low[1])) == pytest.approx(9 * 27 / (16 * 20))


def test_the_network_for_images_of_one_channel_has_less_than_three_hundred_thousand_parameters() -> None:
    assert [sum(weight.numel() for weight in Hybrid(channels).parameters()) for channels in (1, 2)] == [
        162_430,
        164_161,
    ]


@pytest.mark.parametrize(("options", "gain"), [({}, 10), ({"gain": 1.0}, 1)])
def test_first_weights_are_larger_for_images_than_for_conditions(options, gain) -> None:
    torch.manual_seed(0)
    for stage in Hybrid(stages=2, **options).stages:
        weight = stage.correction.first.weight.detach()
        assert float(weight[:, :3].std() / weight[:, 3:].std()) == pytest.approx(gain, rel=0.1)


def test_multi_scale_networks_see_as_far_as_their_scales_reach() -> None:
    network = MultiScale(1, 1, (4, 6, 8)).double()
    torch.nn.init.normal_(network.last.weight)
    x = torch.randn(1, 1, 41, 38, dtype=torch.float64, requires_grad=True)
    made = network(x)
    assert made.shape == x.shape
    (slopes,) = torch.autograd.grad(made[0, 0, 20, 20], x)
    reach = (slopes[0, 0].abs().sum(1) > 0).nonzero().ravel()
    assert 8 <= 20 - int(reach.min()) <= 20
    assert torch.equal(MultiScale(2, 1, (4, 6))(torch.randn(1, 2, 9, 9)), torch.zeros(1, 1, 9, 9))


@pytest.mark.parametrize(("flips", "axes"), [(2, [(-1,)]), (4, [(-1,), (-2,), (-2, -1)])])
def test_reconstructions_are_averaged_over_flips(flips: int, axes: list[tuple[int, ...]]) -> None:
    """Corrections then flip with what they are made from; training draws one of all flips at a time."""
    torch.manual_seed(0)
    plain, averaged = (Hybrid(stages=1, widths=(4, 8), flips=count) for count in (1, flips))
    torch.nn.init.normal_(plain.stages[0].correction.last.weight)
    averaged.load_state_dict(plain.state_dict())
    assert averaged.settings == plain.settings
    planes = torch.randn(2, plain.stages[0].correction.first.in_channels, 12, 14)
    ours, theirs = averaged.stages[0], plain.stages[0]
    terms = [theirs.correct(planes.flip(each)).flip(each) for each in FLIPS]
    drawn = [ours.correct(planes) for _ in range(40)]
    found = [[torch.allclose(made, term, atol=2e-2, rtol=0) for term in terms] for made in drawn]
    assert all(sum(row) == 1 for row in found)
    assert all(any(column) for column in zip(*found, strict=True))
    averaged.eval()
    for each in axes:
        torch.testing.assert_close(ours.correct(planes.flip(each)), ours.correct(planes).flip(each), atol=2e-2, rtol=0)
        assert (theirs.correct(planes.flip(each)) - theirs.correct(planes).flip(each)).abs().max() > 0.1
    terms = [theirs.correct(planes.flip(each)).flip(each) for each in ((), *axes)]
    torch.testing.assert_close(ours.correct(planes), sum(terms) / flips, atol=2e-2, rtol=0)


def test_two_flips_take_turns_over_stages() -> None:
    torch.manual_seed(0)
    network = Hybrid(stages=3, widths=(4, 8), flips=2).eval()
    planes = torch.randn(1, network.stages[0].correction.first.in_channels, 8, 8)
    for k, stage in enumerate(network.stages):
        torch.nn.init.normal_(stage.correction.last.weight)
        axes = [(), (-1,)] if k % 2 == 0 else [(-2,), (-2, -1)]
        terms = [stage.correction(planes.flip(each)).flip(each) for each in axes]
        torch.testing.assert_close(stage.correct(planes), sum(terms) / 2, atol=2e-2, rtol=0)
        assert (stage.correct(planes) - stage.correction(planes)).abs().max() > 0.1


def test_the_safeguard_is_total_variation_around_the_networks_image(boxes, tmp_path: Path) -> None:
    physics = scan()
    spec = HybridSpec(
        kind="hybrid",
        stages=1,
        widths=(4, 8),
        safeguard="image",
        training={"steps": 20, "batch": 2, "validate_every": 10, "warmup": 2},
        tuning={"budget": 6},
    )
    method = spec.build(0)
    assert isinstance(method, TrainedThenTuned)
    validation = boxes(physics, 3, "validation")
    fit = method.fit(boxes(physics, 8, "train"), validation)
    assert {"regularisation", "sparsity", "step"} <= set(fit.chosen)
    _, y = validation.batch(range(2))
    x = method.reconstruct(y, physics)
    weights = method.tuned.values["regularisation"], method.tuned.values["sparsity"]
    torch.testing.assert_close(x, PriorImage(method.trained, *weights).reconstruct(y, physics))
    method.save(tmp_path)
    again = spec.build(0)
    again.load(tmp_path)
    torch.testing.assert_close(again.reconstruct(y, physics), x)


def test_exact_data_survive_whatever_the_network_makes() -> None:
    """An image of few edges is recovered from exact data, with the untrained network as prior image."""
    physics = Radon(ParallelBeam(views(12), 27), SHAPE)
    truth = torch.zeros(1, 1, *SHAPE)
    truth[..., 4:11, 6:15] = 1.0
    truth[..., 6:9, 8:11] = 0.5
    y = physics.A(truth)
    method = LearnedMethod(lambda channels: Hybrid(channels, stages=1, widths=(4, 8)))
    network = method.initial_network(1)

    class Untrained(LearnedMethod):
        def reconstruct(self, y, physics):
            with torch.no_grad():
                return network(y / physics.norm, Normalised(physics))

    prior = Untrained(method.make)
    assert (prior.reconstruct(y, physics) - truth).abs().max() > 0.1
    options = Options(tol=1e-3, max_iter=1000)
    around_its_image = PriorImage(prior, sparsity=3.0, epsilon=0.0, options=options)
    along_its_edges = ReweightedTotalVariation(prior, edge=0.1, epsilon=0.0, options=options)
    for safe in (around_its_image, along_its_edges):
        assert (safe.reconstruct(y, physics) - truth).abs().max() < 1e-3
