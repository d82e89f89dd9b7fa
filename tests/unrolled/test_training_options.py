"""Everything that a training may be asked for besides its steps."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from isocenter.physics import Blur, FourierSampling, LinearOperator, Normalised, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.pointwise import Identity
from isocenter.unrolled import ADMMNet, LearnedMethod, Network, Training, UNetPostProcessing, full_precision
from isocenter.unrolled.augmentation import Augmentation
from isocenter.unrolled.batches import Batch, Batches
from isocenter.unrolled.distributed import Place
from isocenter.unrolled.losses import normalised_l1_l2
from isocenter.unrolled.objective import Objective, split
from isocenter.unrolled.trainer import Trainer
from isocenter.unrolled.unit_problem import UnitProblem
from torch import Tensor, nn

SHAPE = (24, 20)
CPU = Place(torch.device("cpu"))


class Scale(Network):
    """x = a y, shown as a y / 2 on its way, with the penalty a²."""

    def __init__(self, shows: bool = True, penalised: bool = False) -> None:
        super().__init__()
        self.settings = {"network": "scale"}
        self.a = nn.Parameter(torch.tensor(0.5))
        self.shows, self.penalised = shows, penalised

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        if self.shows:
            self.show(self.a * y / 2)
        return self.a * y

    def penalty(self) -> Tensor | None:
        return self.a.square() if self.penalised else None


def gradient(network: Network, training: Training, boxes: type, place: Place = CPU) -> float:
    """dL/da of the first step."""
    problem, validation = (UnitProblem(boxes(Identity(SHAPE), n, "train"), 1.0) for n in (6, 1))
    trainer = Trainer(network, training, 0, [problem], [validation], place)
    with Batches([problem], training.batch, training.steps, 0, place) as batches:
        trainer.differentiate(batches.take(0))
    (weight,) = network.parameters()
    assert weight.grad is not None
    return float(weight.grad)


def test_deep_supervision_adds_the_mean_loss_of_what_a_network_shows(boxes: type) -> None:
    problem = boxes(Identity(SHAPE), 2, "train")
    truth, y = problem.batch([0, 1])
    network, batch = Scale(), Batch(truth, y, Normalised(problem.physics))
    last = (0.5 * y - truth).square().mean((1, 2, 3))
    way = (0.25 * y - truth).square().mean((1, 2, 3))
    torch.testing.assert_close(Objective("mse", 0.0, 0.4, 0)(network, batch, 0), last)
    torch.testing.assert_close(Objective("mse", 0.3, 0.4, 0)(network, batch, 0), last + 0.3 * way)
    assert network.shown is None
    with pytest.raises(ValueError, match="scale shows no intermediate images"):
        Objective("mse", 0.3, 0.4, 0)(Scale(shows=False), batch, 0)


def test_a_networks_penalty_is_added_whatever_its_process_holds_of_the_batch(boxes: type) -> None:
    training = Training(steps=1, batch=4)
    plain, penalised = (gradient(Scale(penalised=p), training, boxes) for p in (False, True))
    assert penalised - plain == pytest.approx(2 * 0.5)
    parts = [gradient(Scale(penalised=True), training, boxes, Place(CPU.device, rank, 2)) for rank in (0, 1)]
    assert sum(parts) == pytest.approx(penalised)


class TestSplitting:
    """Self-supervision: measurements only."""

    @pytest.mark.parametrize(
        "physics",
        [
            FourierSampling(cartesian_uniform((40, 44), 2, 8)),
            FourierSampling(cartesian_uniform((40, 44), 2, 8), complex_image=True),
            Radon(ParallelBeam(views(16), 33), SHAPE),
            Blur(torch.ones(3, 3) / 9, SHAPE),
        ],
        ids=["k-space", "complex k-space", "tomography", "blur"],
    )
    def test_the_network_sees_a_part_and_the_loss_compares_the_rest(self, physics: LinearOperator) -> None:
        seen = []

        class Direct(Scale):
            def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
                seen.append((y, physics))
                return self.a * physics.direct(y)

        normalised, support = Normalised(physics), torch.ones(physics.range, dtype=torch.bool)
        if physics.support is not None:
            support = support & physics.support
        y = support * torch.randn(2, *physics.range)
        network = Direct()
        nonsense = torch.full((2, *physics.domain), torch.nan)  # the truth, which nothing may touch
        values = Objective("measurement-splitting", 0.0, 0.4, 3)(network, Batch(nonsense, y, normalised), 5)
        assert values.isfinite().all()
        ((part, operator),) = seen
        kept = part != 0
        assert torch.equal(part[kept], y[kept])
        rest = support & ~kept
        assert 0.3 < float(rest.sum() / support.expand_as(y).sum()) < 0.45
        x = 0.5 * operator.direct(part)
        torch.testing.assert_close(operator.A(x), kept * normalised.A(x))  # the operator of the part, and its scale
        torch.testing.assert_close(values, normalised_l1_l2(normalised.A(x) * rest, y * rest))

    def test_masks_are_a_function_of_seed_and_turn_and_keep_the_centre_of_k_space(self) -> None:
        physics = FourierSampling(torch.ones(SHAPE))
        masks = [split(physics, 0.9, 0, k) for k in range(8)]
        assert all(torch.equal(mask, split(physics, 0.9, 0, k)) for k, mask in enumerate(masks))
        assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 8
        assert all(mask[10:14, 8:12].all() for mask in masks)

    def test_it_learns_without_truths(self, boxes: type) -> None:
        class Blind(boxes):  # type: ignore[misc]
            """Training images that are measured once, and whose truths are not known."""

            def measurement(self, i: int, draw: int = 0) -> Tensor:
                assert draw == 0
                return boxes(self.physics, len(self), self.name).measurement(i)

            def truth(self, i: int) -> Tensor:
                return torch.full(self.physics.domain, torch.nan)

        physics = FourierSampling(cartesian_uniform((32, 32), 2, 6))
        training = Training(
            steps=60, batch=4, validate_every=20, warmup=5, learning_rate=1e-2, loss="measurement-splitting"
        )
        method = LearnedMethod(lambda channels: ADMMNet(stages=2), training)
        method.fit(Blind(physics, 16, "train"), boxes(physics, 4, "validation"))
        truth, y = boxes(physics, 8, "fresh").batch(range(8))

        def psnr(x: Tensor) -> float:
            return float((-10 * (x - truth).flatten(1).square().mean(1).log10()).mean())

        assert psnr(method.reconstruct(y, physics)) > psnr(physics.direct(y)) + 5

    def test_augmented_images_have_no_measurements(self) -> None:
        with pytest.raises(ValueError, match="leave augment out"):
            Training(loss="measurement-splitting", augment=Augmentation(flips=True))


class TestCheckpointing:
    """Depth costs time and not memory."""

    @staticmethod
    def saved(network: Network, y: Tensor, physics: LinearOperator) -> int:
        """Bytes that the graph keeps until the way back, besides what checkpointed stages hand on."""
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(y, physics)
        return sum(storages.values())

    def test_memory_and_gradients(self) -> None:
        physics = Normalised(Radon(ParallelBeam(views(9), 29), SHAPE))
        y = physics.A(torch.rand(2, 1, *SHAPE))
        bytes_of, gradients = {}, {}
        for checkpointing in (False, True):
            for stages in (2, 6):
                torch.manual_seed(0)
                network = ADMMNet(stages)
                network.checkpointing = checkpointing
                bytes_of[checkpointing, stages] = self.saved(network, y, physics)
            network(y, physics).square().sum().backward()
            gradients[checkpointing] = [weight.grad for weight in network.parameters()]
        for plain, again in zip(gradients[False], gradients[True], strict=True):
            assert torch.equal(plain, again)
        per_stage = {c: (bytes_of[c, 6] - bytes_of[c, 2]) / 4 for c in (False, True)}
        print(f"kept for each stage: {per_stage[False] / 1e3:.0f} kB, checkpointed {per_stage[True] / 1e3:.0f} kB")
        assert per_stage[True] < 0.05 * per_stage[False]

    def test_a_checkpointed_training_ends_with_the_same_weights(self, boxes: type) -> None:
        physics = FourierSampling(cartesian_uniform(SHAPE, 2, 4))
        methods = []
        for checkpoint in (False, True):
            training = Training(steps=4, batch=2, validate_every=2, warmup=0, checkpoint=checkpoint)
            methods.append(LearnedMethod(lambda channels: ADMMNet(stages=3), training))
            methods[-1].fit(boxes(physics, 3, "train"), boxes(physics, 1, "validation"))
        for a, b in zip(*(method.network.parameters() for method in methods), strict=True):
            assert torch.equal(a, b)


class TestBatches:
    """Made ahead, by any number of threads, and always the same."""

    def test_they_depend_on_the_step_alone(self, boxes: type) -> None:
        problems = [UnitProblem(boxes(Identity(SHAPE), n, f"problem {n}"), 1.0) for n in (5, 3)]

        def stream(workers: int, place: Place = CPU) -> list[Batch]:
            with Batches(problems, 4, 9, 7, place, workers=workers) as batches:
                return [batches.take(step) for step in (*range(4), *range(1, 9))]  # goes back once

        one, three = stream(1), stream(3)
        assert [batch.physics for batch in one[:4]] == [problems[k % 2].physics for k in range(4)]
        for a, b in zip(one, three, strict=True):
            assert torch.equal(a.truth, b.truth)
            assert torch.equal(a.y, b.y)
        for a, b in zip(one[1:4], one[4:7], strict=True):
            assert torch.equal(a.y, b.y)
        halves = [stream(1, Place(CPU.device, rank, 2)) for rank in (0, 1)]
        for a, *parts in zip(one, *halves, strict=True):
            together = torch.cat([part.y for part in parts])
            assert sorted(together.sum((1, 2, 3)).tolist()) == sorted(a.y.sum((1, 2, 3)).tolist())

    def test_the_next_ones_are_made_while_the_network_is_busy(self, boxes: type) -> None:
        class Slow(boxes):  # type: ignore[misc]
            def measurement(self, i: int, draw: int = 0) -> Tensor:
                assert threading.current_thread() is not threading.main_thread()
                time.sleep(0.01)
                return super().measurement(i, draw)

        problem = UnitProblem(Slow(Identity(SHAPE), 4, "slow"), 1.0)
        with Batches([problem], 4, 6, 0, CPU) as batches:
            batches.take(0)
            waited = 0.0
            for step in range(1, 6):
                time.sleep(0.3)
                began = time.monotonic()
                batches.take(step)
                waited += time.monotonic() - began
        assert waited < 0.1  # of 0.2 s that they take

    def test_what_goes_wrong_in_a_thread_is_raised_here(self, boxes: type) -> None:
        class Broken(boxes):  # type: ignore[misc]
            def measurement(self, i: int, draw: int = 0) -> Tensor:
                raise OSError("the disk is gone")

        with (
            Batches([UnitProblem(Broken(Identity(SHAPE), 4, "b"), 1.0)], 2, 5, 0, CPU) as batches,
            pytest.raises(OSError, match="the disk is gone"),
        ):
            batches.take(0)


def test_what_a_network_draws_is_the_same_after_a_kill(boxes: type) -> None:
    class Dropping(UNetPostProcessing):
        def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
            return super().forward(nn.functional.dropout(y, 0.5, self.training), physics)

    training = Training(steps=6, batch=2, validate_every=2, warmup=0)
    problem, validation = (UnitProblem(boxes(Identity(SHAPE), 3, name), 1.0) for name in ("train", "validation"))

    def trainer() -> Trainer:
        torch.manual_seed(1)
        return Trainer(Dropping(widths=(4, 8)), training, 0, [problem], [validation], CPU)

    whole, killed, resumed = trainer(), trainer(), trainer()
    with full_precision():
        list(whole.run(lambda images, loss: None))
        next(killed.run(lambda images, loss: None))
        torch.manual_seed(77)
        resumed.restore(*killed.snapshot())
        list(resumed.run(lambda images, loss: None))
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name])


def test_several_problems_take_turns_and_are_validated_together(boxes: type, tmp_path: Path) -> None:
    from isocenter.unrolled.trainer import validation_psnr
    from isocenter.unrolled.training import train

    operators = (FourierSampling(cartesian_uniform(SHAPE, 2, 4)), Blur(torch.ones(3, 3) / 9, SHAPE))
    network = ADMMNet(stages=2)
    validations = [UnitProblem(boxes(p, n, "validation"), 1.0) for p, n in zip(operators, (1, 3), strict=True)]
    fit = train(
        network,
        Training(steps=4, batch=2, validate_every=4, warmup=0),
        0,
        [UnitProblem(boxes(p, 3, "train"), 1.0) for p in operators],
        validations,
    )
    weights = dict(network.named_parameters())
    values = [validation_psnr(network, weights, v, 2) for v in validations]
    assert fit.curve[-1]["validation_psnr"] == pytest.approx((values[0] + 3 * values[1]) / 4, abs=1e-4)
