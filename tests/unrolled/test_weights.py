"""Weight files: they come back as they were, and whatever does not fit is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from isocenter.physics.pointwise import Identity
from isocenter.unrolled import ADMMNet, LearnedMethod, Training, UNetPostProcessing
from isocenter.unrolled.weights_io import read_tensors, write_tensors

SHAPE = (16, 18)
SHORT = Training(steps=2, batch=2, validate_every=1, warmup=0)


def unet(channels: int) -> UNetPostProcessing:
    return UNetPostProcessing(channels, widths=(4, 8))


@pytest.fixture
def trained(boxes: type, tmp_path: Path) -> tuple[LearnedMethod, Path]:
    physics = Identity(SHAPE)
    method = LearnedMethod(unet, SHORT)
    method.fit(boxes(physics, 2, "train", data_range=3.0), boxes(physics, 1, "validation", data_range=3.0))
    method.save(tmp_path)
    return method, tmp_path / "weights.safetensors"


def test_loaded_weights_give_the_same_images(trained: tuple[LearnedMethod, Path]) -> None:
    method, path = trained
    loaded = LearnedMethod(unet, seed=5)
    loaded.load(path.parent)
    y = torch.randn(2, 1, *SHAPE)
    assert torch.equal(method.reconstruct(y, Identity(SHAPE)), loaded.reconstruct(y, Identity(SHAPE)))
    assert loaded.card == method.card


def test_the_card_tells_where_the_weights_come_from(trained: tuple[LearnedMethod, Path]) -> None:
    method, path = trained
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["network"] == {"network": "U-Net post-processing", "channels": 1, "widths": [4, 8]}
    assert card["training"]["steps"] == 2
    assert card["training"]["seed"] == 0
    assert card["data_range"] == 3.0
    assert card["parameters"] == method.parameters == sum(t.numel() for t in read_tensors(path)[0].values())
    assert card["data"]["training_images"] == 2


def refused(path: Path, message: str) -> None:
    method = LearnedMethod(unet)
    with pytest.raises(ValueError, match=message) as error:
        method.load(path.parent)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_missing_or_damaged_is_refused(trained: tuple[LearnedMethod, Path]) -> None:
    path = trained[1]
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "cut short")
    path.write_bytes(whole[:8] + b"\xff" * 50 + whole[58:])
    refused(path, "not a whole safetensors file")
    path.unlink()
    refused(path, "no such weight file")


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_is_refused(trained: tuple[LearnedMethod, Path], new_format: bool) -> None:
    method, path = trained
    torch.save(method.network.state_dict(), path, _use_new_zipfile_serialization=new_format)
    refused(path, "is a pickle")


def test_weights_of_another_network_are_refused(trained: tuple[LearnedMethod, Path]) -> None:
    path = trained[1]
    with pytest.raises(ValueError, match=r"another network: widths \[4, 8\] instead of \[4, 16\]"):
        LearnedMethod(lambda channels: UNetPostProcessing(channels, (4, 16))).load(path.parent)
    with pytest.raises(ValueError, match="'U-Net post-processing' instead of 'ADMM-Net'"):
        LearnedMethod(ADMMNet).load(path.parent)


def test_tensors_that_do_not_fit_are_refused(trained: tuple[LearnedMethod, Path]) -> None:
    path = trained[1]
    tensors, metadata = read_tensors(path)
    name = next(iter(tensors))
    write_tensors(path, {**tensors, name: tensors[name][:1]}, metadata)
    refused(path, r"in the file and .* in the network")
    write_tensors(path, {k: v for k, v in tensors.items() if k != name}, metadata)
    refused(path, "absent in the file")
    write_tensors(path, {**tensors, "extra": torch.zeros(1)}, metadata)
    refused(path, "absent in the network")
    write_tensors(path, {**tensors, name: tensors[name] * torch.nan}, metadata)
    refused(path, "NaN")


def test_a_card_that_is_none_is_refused(trained: tuple[LearnedMethod, Path]) -> None:
    path = trained[1]
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["card"])
    without = {name: value for name, value in card.items() if name != "data_range"}
    other = {**card, "network": {**card["network"], "channels": "many"}}
    for text in ("", "[]", "3", *map(json.dumps, (without, {**card, "data_range": -1}, other))):
        write_tensors(path, tensors, {"card": text})
        refused(path, "no valid card")
    write_tensors(path, tensors, {})
    refused(path, "no valid card")


@pytest.mark.parametrize("channels", [1, 2])
def test_the_network_is_made_for_the_images(boxes: type, tmp_path: Path, channels: int) -> None:
    physics, other = Identity((channels, *SHAPE)), Identity((3 - channels, *SHAPE))
    method, loaded = LearnedMethod(unet, SHORT), LearnedMethod(unet)
    assert method.parameters == 0
    method.fit(boxes(physics, 2, "train"), boxes(physics, 1, "validation"))
    method.save(tmp_path)
    loaded.load(tmp_path)
    y = torch.randn(2, *physics.range)
    for known in (method, loaded):
        assert known.network is not None
        assert known.network.settings["channels"] == channels
        assert known.parameters == sum(w.numel() for w in unet(channels).parameters())
        assert torch.equal(known.reconstruct(y, physics), method.reconstruct(y, physics))
        with pytest.raises(ValueError, match=rf"images of {channels} channel\(s\), the operator's have {3 - channels}"):
            known.reconstruct(torch.randn(2, *other.range), other)


def test_a_network_that_treats_channels_alike_takes_any(boxes: type) -> None:
    method, physics = LearnedMethod(lambda channels: ADMMNet(stages=1), SHORT), Identity(SHAPE)
    method.fit(boxes(physics, 2, "train"), boxes(physics, 1, "validation"))
    real, imaginary = torch.randn(2, 1, 1, *SHAPE)
    x = method.reconstruct(torch.cat((real, imaginary), 1), Identity((2, *SHAPE)))
    apart = [method.reconstruct(part, physics) for part in (real, imaginary)]
    torch.testing.assert_close(x, torch.cat(apart, 1))


def test_an_untrained_method_says_so(tmp_path: Path) -> None:
    method = LearnedMethod(unet)
    with pytest.raises(ValueError, match="not trained"):
        method.reconstruct(torch.zeros(1, 1, *SHAPE), Identity(SHAPE))
    with pytest.raises(ValueError, match="not trained"):
        method.save(tmp_path)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = LearnedMethod(unet, seed=7).initial_network(1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(4)
    second, other = (LearnedMethod(unet, seed=seed).initial_network(1).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
