"""Speed of training and of networks: bf16 channels-last blocks beside plain float32, measured in one run.

python -m isocenter.benchmarks.peers.training [--threads 2] [--steps 120]

Learned primal-dual on the ellipses of Adler & Öktem (TMI 2018), batches of five images of 128², see
``data/ellipses.py``. Both ways take the same steps on the same batches from the same weights, in turns.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform
import resource
import statistics
import time

import torch
from torch import Tensor, nn

from ...data.phantom_datasets import phantoms
from ...data.problem import SimulatedProblem
from ...physics import GaussianNoise, Normalised, ParallelBeam, Radon, views
from ...unrolled.batches import Batches
from ...unrolled.blocks import ConvolutionBlock, bf16_is_fast
from ...unrolled.contract import Network
from ...unrolled.distributed import Place
from ...unrolled.learned_primal_dual import LearnedPrimalDual
from ...unrolled.trainer import Trainer
from ...unrolled.training import Training
from ...unrolled.unit_problem import UnitProblem
from .timing import interleaved

BATCH = 5
CPU = Place(torch.device("cpu"))


def ellipses(size: int = 128) -> tuple[UnitProblem, UnitProblem, float]:
    """Training and validation images of the task, and the seconds that drawing and measuring an image takes."""
    field = 128.0
    geometry = ParallelBeam(views(30, half_cell=True), 183, spacing=field * math.sqrt(2) / 183)
    physics = Radon(geometry, (size, size), field / size)
    dataset = phantoms("ellipses", "ellipses", size, {"train": 10_000, "validation": 32})
    noise = GaussianNoise(0.05, relative=True)
    train, validation = (
        UnitProblem(SimulatedProblem("ellipses", dataset, dataset.splits[split], physics, noise, 0), dataset.data_range)
        for split in ("train", "validation")
    )
    train.pair(0, 0)  # warm-up
    seconds = []
    for i in range(1, 21):
        began = time.perf_counter()
        train.pair(i, 0)
        seconds.append(time.perf_counter() - began)
    return train, validation, statistics.median(seconds)


def plain(network: Network) -> Network:
    """A copy whose convolutions run in float32, on contiguous tensors."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvolutionBlock):
                setattr(module, name, _Contiguous(child.body))
    return network


class _Contiguous(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.contiguous())


def compare_training(steps: int) -> None:
    """Print images per second of both ways, and the validation PSNR that they reach."""
    train, validation, drawing = ellipses()
    torch.manual_seed(0)
    network = LearnedPrimalDual()
    training = Training(
        steps=steps, batch=BATCH, learning_rate=1e-3, warmup=min(20, steps // 4), average=0.99, validate_every=steps
    )
    ways: dict[str, Network] = {"bf16, channels last": network, "float32, contiguous": plain(network)}
    trainers = {name: Trainer(net, training, 0, [train], [validation], CPU) for name, net in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # Both take their batches from one source, so that neither pays for drawing the other's images.
    with Batches([train], BATCH, steps, 0, CPU) as source:
        for step in range(steps):
            batch = source.take(step)
            for name, trainer in trainers.items():
                began = time.perf_counter()
                trainer.advance(batch)
                seconds[name].append(time.perf_counter() - began)
    print(f"\nlearned primal-dual, 10 iterations, 128², 30 views, batch {BATCH}: {steps} steps of each, in turns")
    print(f"{'':24}{'ms a step':>12}{'images/s':>12}{'ratio':>8}{'validation PSNR':>20}")
    slowest = statistics.median(seconds["float32, contiguous"])
    for name, trainer in trainers.items():
        median = statistics.median(seconds[name])
        psnr = trainer.validate(0.0)["validation_psnr"]
        print(f"{name:24}{1e3 * median:12.0f}{BATCH / median:12.2f}{slowest / median:8.2f}{psnr:17.2f} dB")
    share = BATCH * drawing / statistics.median(seconds["bf16, channels last"])
    print(f"drawing and measuring an image: {1e3 * drawing:.1f} ms in a thread of its own, {share:.0%} of a step")


def inference(repeats: int) -> None:
    """Print the time of a 256² slice, alone and in a batch."""
    physics = Normalised(Radon(ParallelBeam(views(60), 363), (256, 256)))
    network = LearnedPrimalDual().eval()
    measured = {batch: physics.A(torch.rand(batch, 1, 256, 256)) for batch in (1, 8)}

    @torch.no_grad()
    def reconstruct(batch: int) -> Tensor:
        return network(measured[batch], physics)

    seconds = interleaved({"one": lambda: reconstruct(1), "eight": lambda: reconstruct(8)}, repeats)
    print("\nlearned primal-dual, 10 iterations, 256², 60 views: ", end="")
    print(f"a slice in {1e3 * seconds['one']:.0f} ms, a batch of 8 at {8 / seconds['eight']:.1f} images/s")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fast = "multiplies bf16 in hardware" if bf16_is_fast("cpu") else "has no bf16, both ways are float32"
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}; {fast}")
    compare_training(options.steps)
    inference(options.repeats)
    print(f"\npeak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
