"""Weight files: safetensors with a card, and nothing that could run code."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.whole_file import whole_file
from .contract import Network


@dataclass(frozen=True)
class Card:
    """Where weights come from.

    Attributes:
        network: the settings of the network, which must be those of the network that loads the weights.
        training: the settings of the training, and its seed.
        data: numbers of images and patients of training and validation.
        data_range: of the dataset; the network works on intensities divided by it.
        validation_psnr: mean over the validation images, in dB.
        parameters: their number.
        seconds: of training.
        hardware: on which.
        commit: of this code, when it was trained.
    """

    network: dict[str, Any]
    training: dict[str, Any]
    data: dict[str, int]
    data_range: float
    validation_psnr: float
    parameters: int
    seconds: float
    hardware: str
    commit: str

    @property
    def channels(self) -> int | None:
        """Of the images that the network takes; None where it takes any, one channel like the other."""
        return self.network.get("channels")


def write_weights(path: Path, network: Network, card: Card) -> None:
    """Write the weights with their card inside, and beside them the card once more, for readers."""
    text = json.dumps(asdict(card), indent=2, ensure_ascii=False)
    write_tensors(path, network.state_dict(), {"card": text})
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def read_weights(path: Path, make: Callable[[int], Network]) -> tuple[Network, Card]:
    """A network with the weights of a file, whose settings and shapes must be those of its card, and the card.

    Args:
        path: of the file.
        make: makes the network for images of so many channels, which the card tells.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    tensors, metadata = read_tensors(path)
    card = _card(path, metadata)
    network = make(card.channels or 1)
    settings = network.settings
    if card.network != settings:
        names = [n for n in {**settings, **card.network} if settings.get(n) != card.network.get(n)]
        differences = ", ".join(f"{n} {card.network.get(n)!r} instead of {settings.get(n)!r}" for n in names)
        raise ValueError(f"{path}: the weights belong to another network: {differences}")
    state = network.state_dict()
    for name in {**state, **tensors}:
        stored, expected = (f"{list(t[name].shape)}" if name in t else "absent" for t in (tensors, state))
        if stored != expected:
            raise ValueError(f"{path}: {name} is {stored} in the file and {expected} in the network")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; train again")
    network.load_state_dict(tensors)
    return network, card


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file; whole or not at all."""
    with whole_file(path, durable=True) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such weight file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as raw:
            start = raw.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            raise ValueError(
                f"{path} is a pickle, which could run any code; only safetensors files are read"
            ) from error
        raise ValueError(f"{path} is not a whole safetensors file ({error}); was it cut short?") from error


def hardware(device: torch.device) -> str:
    """The processor that computes on this device, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads"


def commit() -> str:
    """The commit of this code, with ``-dirty`` when files differ from it; ``unknown`` outside a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _card(path: Path, metadata: dict[str, str]) -> Card:
    try:
        values = json.loads(metadata["card"])
        card = Card(**{field.name: values[field.name] for field in fields(Card)})
        if not (isinstance(card.network, dict) and card.data_range > 0 and card.channels in (None, 1, 2)):
            raise ValueError("network, channels or data_range")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the weights have no valid card ({error}); train them again with this code"
        ) from error
    return card
