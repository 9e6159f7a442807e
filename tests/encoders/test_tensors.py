from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.encoders.test_catalogue import small
from wsi_mil.config import Encoder
from wsi_mil.encoders import RECORDS
from wsi_mil.encoders.names import default_weights
from wsi_mil.encoders.networks import build, create_network, record_module
from wsi_mil.encoders.tensors import load_weights
from wsi_mil.errors import ConfigError

SHAPES = {"first.weight": (3, 2), "first.bias": (3,), "second.weight": (4, 3), "second.bias": (4,)}


class Two(nn.Module):
    """Two layers of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 4)


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, float(number)) for number, (name, shape) in enumerate(SHAPES.items())}


def load(file: Path) -> Two:
    network = Two()
    load_weights(network, file, names="timm", encoder="two")
    return network


def fits(file: Path) -> bool:
    state = load(file).state_dict()
    return all(torch.equal(state[name], value) for name, value in tensors().items())


WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], dict]] = {
    "as it is": lambda t: t,
    "among other things": lambda t: {"model": t, "epoch": 7},
    "beside a tensor": lambda t: {"epoch": torch.tensor(3), "state_dict": t},
    "of DINOv2": lambda t: {"teacher": {**{f"backbone.{k}": v for k, v in t.items()}, "dino_head.mlp.0.weight": torch.ones(2)}},
    "twice": lambda t: {"state_dict": {"model": t}},
    "of a parallel model": lambda t: {f"module.{k}": v for k, v in t.items()},
    "of a teacher": lambda t: {
        "student": t,
        "teacher": {**{f"module.backbone.{k}": v for k, v in t.items()}, "module.head.x": torch.ones(1)},
    },
    "with a classifier": lambda t: {**t, "head.weight": torch.ones(9, 4), "fc.bias": torch.ones(9)},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
def test_weights_are_found_where_training_code_puts_them(tmp_path: Path, wrapping: Callable) -> None:
    torch.save(wrapping(tensors()), tmp_path / "w.pth")
    assert fits(tmp_path / "w.pth")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({f"backbone.{name}": value for name, value in tensors().items()}, tmp_path / "w.safetensors")
    assert fits(tmp_path / "w.safetensors")


def test_safetensors_are_read_under_another_name(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "pytorch_model.bin")
    assert fits(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("text", ["version https://git-lfs.github.com/spec/v1", "<!doctype html><title>Log in</title>"])
def test_a_download_that_is_no_weights_file_is_described(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.bin").write_text(text)
    with pytest.raises(ConfigError, match=f"no weights file, it begins with '{text[:20]}.*; download it again"):
        load(tmp_path / "w.bin")
    (tmp_path / "empty.bin").touch()
    with pytest.raises(ConfigError, match="the file is empty; download it again"):
        load(tmp_path / "empty.bin")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    bad = tensors()
    del bad["first.bias"]
    bad |= {"second.weight": torch.ones(4, 7), "reg_token": torch.ones(1), "third.bias": torch.ones(1)}
    torch.save(bad, tmp_path / "w.bin")
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "w.bin")
    assert str(error.value) == (
        f"weights {tmp_path / 'w.bin'} are not of this encoder, two: 1 tensor missing: first.bias; 2 tensors unexpected:"
        " reg_token, third.bias; 1 tensor of another shape: second.weight (4, 7), expected (4, 3)"
    )


def test_many_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    torch.save({"a.b": torch.ones(1)}, tmp_path / "w.bin")
    with pytest.raises(
        ConfigError, match=r"4 tensors missing: first.weight, first.bias, second.weight, …; 1 tensor unexpected: a.b"
    ):
        load(tmp_path / "w.bin")


def test_two_sets_of_weights_are_not_chosen_between(tmp_path: Path) -> None:
    torch.save({"model": tensors(), "teacher": tensors()}, tmp_path / "w.bin")
    with pytest.raises(ConfigError, match=r"several sets of weights \(model, teacher\)"):
        load(tmp_path / "w.bin")


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch.save(Two(), tmp_path / "w.pth")
    with pytest.raises(
        ConfigError,
        match="expected a state dict of tensors only, since other objects could run code: save its state dict as safetensors",
    ):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_truncated_file_is_an_error(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        save_file(tensors(), tmp_path / name)
    else:
        torch.save(tensors(), tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-200])
    with pytest.raises(ConfigError, match=f"{name}: (cannot be read|expected a state dict of tensors only)"):
        load(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=name):
        load(tmp_path / name)


def test_a_tensor_alone_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="found Tensor"):
        load(tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "gone.pth")


@pytest.mark.parametrize("name", ["uni2_h", "virchow2", "phikon"])
def test_a_records_file_gives_the_networks_own_features(tmp_path: Path, name: str) -> None:
    record = small(RECORDS[name])
    torch.manual_seed(5)
    network = build(record)
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 224, 224)
    loaded = record_module(record, Encoder(encoder=name, weights=str(tmp_path / "w.safetensors"))).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(images)[:, :48], network.eval().forward_features(images)[:, 0])


def test_weights_without_registers_do_not_pass_for_weights_with_them(tmp_path: Path) -> None:
    torch.save(build(small(RECORDS["virchow"])).state_dict(), tmp_path / "w.bin")
    with pytest.raises(ConfigError, match="not of this encoder, virchow2: 1 tensor missing: reg_token; 1 tensor of another"):
        record_module(small(RECORDS["virchow2"]), Encoder(encoder="virchow2", weights=str(tmp_path / "w.bin")))
    torch.save(build(small(RECORDS["virchow2"])).state_dict(), tmp_path / "w.bin")
    with pytest.raises(ConfigError, match="not of this encoder, virchow: 1 tensor unexpected: reg_token; 1 tensor of another"):
        record_module(small(RECORDS["virchow"]), Encoder(encoder="virchow", weights=str(tmp_path / "w.bin")))


def test_a_whole_resnet_is_cut(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    whole = timm.create_model("resnet50").eval()
    save_file(dict(whole.state_dict()), tmp_path / "w.safetensors")
    cut = create_network(Encoder(encoder="resnet50_cut", weights=str(tmp_path / "w.safetensors"))).module.eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        x = whole.maxpool(whole.act1(whole.bn1(whole.conv1(images))))
        third = whole.layer3(whole.layer2(whole.layer1(x)))
        assert third.shape == (1, 1024, 4, 6) and torch.allclose(cut(images), third.mean(dim=(2, 3)), atol=1e-6)


def test_the_packaged_file_can_be_given_as_a_file() -> None:
    packaged, given = (create_network(Encoder(weights=each)).module for each in ("pretrained", str(default_weights())))
    state = given.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in packaged.state_dict().items())


def test_large_networks_are_not_initialised_randomly_before_their_weights_are_loaded(tmp_path: Path) -> None:
    record = small(RECORDS["h_optimus_0"])
    save_file(dict(build(record).state_dict()), tmp_path / "w.safetensors")
    module = record_module(record, Encoder(encoder=record.name, weights=str(tmp_path / "w.safetensors")))
    assert all(value.device.type == "cpu" for value in (*module.parameters(), *module.buffers()))
    half = module.eval().to(torch.bfloat16)
    with torch.inference_mode():
        assert half(torch.randn(1, 3, 224, 224).to(torch.bfloat16)).dtype == torch.float32
