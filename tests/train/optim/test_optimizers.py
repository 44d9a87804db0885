"""Groups, rates and clipping; and that stopping and going on changes no bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import nets
from ingest.errors import UserError
from train.optim.config import NAMES
from train.optim.optimizers import OptimizerConfig, build, clip, momentum_of, set_lr

CPU = torch.device("cpu")


def make_net():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
    return nn.ModuleDict({"backbone": backbone, "head": nn.Conv2d(4, 2, 1)})


def groups_of(net):
    return {name: list(net[name].parameters()) for name in ("backbone", "head")}


def named_groups(optimizer):
    return {group["name"]: group for group in optimizer.param_groups}


def test_groups_by_part_and_decay():
    net = make_net()
    config = OptimizerConfig(lr=0.1, weight_decay=0.01, backbone_lr_scale=0.1)
    groups = named_groups(build(config, groups_of(net), CPU))
    assert {name: len(group["params"]) for name, group in groups.items()} == {
        "backbone/decay": 1,  # the convolution's weight
        "backbone/no_decay": 4,  # its bias, the norm's weight and bias, the PReLU's slopes
        "head/decay": 1,
        "head/no_decay": 1,
    }
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "backbone/decay": 0.01,
        "backbone/no_decay": 0.0,
        "head/decay": 0.01,
        "head/no_decay": 0.0,
    }
    assert {name: group["initial_lr"] for name, group in groups.items()} == pytest.approx(
        {"backbone/decay": 0.01, "backbone/no_decay": 0.01, "head/decay": 0.1, "head/no_decay": 0.1}
    )


def test_decay_on_norms_and_biases_can_be_had():
    groups = named_groups(build(OptimizerConfig(decay_norm_and_bias=True), groups_of(make_net()), CPU))
    assert set(groups) == {"backbone/decay", "head/decay"} and len(groups["backbone/decay"]["params"]) == 5


def test_frozen_parameters_are_left_out():
    net = make_net()
    net["backbone"].requires_grad_(False)
    assert set(named_groups(build(OptimizerConfig(), groups_of(net), CPU))) == {"head/decay", "head/no_decay"}


def test_takes_the_groups_of_a_net():
    net = nets.build("deeplabv3plus", 3, backbone="resnet18", pretrained=False)
    optimizer = build(OptimizerConfig(backbone_lr_scale=0.1), nets.parameter_groups(net), CPU)
    found = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len({id(p) for p in found}) == len(list(net.parameters()))
    assert set(named_groups(optimizer)) == {"backbone/decay", "backbone/no_decay", "head/decay", "head/no_decay"}


def test_unknown_group():
    with pytest.raises(ValueError, match="neck"):
        build(OptimizerConfig(), {"neck": []}, CPU)


@pytest.mark.parametrize("name", NAMES)
def test_set_lr_scales_each_group_and_sets_momentum(name):
    optimizer = build(OptimizerConfig(name, lr=0.1, backbone_lr_scale=0.1), groups_of(make_net()), CPU)
    set_lr(optimizer, 0.5, momentum=0.85)
    set_lr(optimizer, 0.5)  # not compounded; momentum stays
    groups = named_groups(optimizer)
    assert groups["backbone/decay"]["lr"] == pytest.approx(0.005) and groups["head/decay"]["lr"] == pytest.approx(0.05)
    assert momentum_of(optimizer) == (None if name == "adagrad" else 0.85)
    if name != "adagrad":  # it has none
        assert all((group["betas"][0] if "betas" in group else group["momentum"]) == 0.85 for group in groups.values())


def step(net, optimizer, seed):
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad(set_to_none=True)
    net["head"](net["backbone"](images)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("config", "made"),
    [
        (
            {"name": "adam", "betas": [0.8, 0.99]},
            lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.99), weight_decay=0.1),
        ),
        ({"name": "adam", "eps": 1e-3}, lambda p: torch.optim.Adam(p, 0.01, eps=1e-3, weight_decay=0.1)),
        (
            {"name": "rmsprop", "momentum": 0.5, "smoothing": 0.9},
            lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, momentum=0.5, weight_decay=0.1),
        ),
        ({"name": "adagrad", "eps": 1e-5}, lambda p: torch.optim.Adagrad(p, 0.01, eps=1e-5, weight_decay=0.1)),
        ({"name": "adamw"}, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    ],
)
def test_each_name_is_torch_s(config, made):
    """Weight decay means what it means there: L2 for all but adamw."""
    net, theirs = make_net(), make_net()
    config = OptimizerConfig(**config, lr=0.01, weight_decay=0.1, decay_norm_and_bias=True)
    pairs = [(net, build(config, groups_of(net), CPU)), (theirs, made(theirs.parameters()))]
    for seed in range(3):
        for each, optimizer in pairs:
            draw = torch.Generator().manual_seed(seed)
            for parameter in each.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()
    for a, b in zip(net.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_goes_on_bit_for_bit(name):
    config = OptimizerConfig(name, lr=0.05, nesterov=name == "sgd")
    net = make_net()
    optimizer = build(config, groups_of(net), CPU)
    for seed in range(3):
        step(net, optimizer, seed)
    other = make_net()
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    resumed = build(config, groups_of(other), CPU)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in range(3, 6):
        step(net, optimizer, seed)
        step(other, resumed, seed)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_steps_as_the_plain_one(name):
    net, plain_net = make_net(), make_net()
    config = OptimizerConfig(name, lr=0.05, weight_decay=0.01)
    optimizer = build(config, groups_of(net), CPU)
    assert all(group["fused"] for group in optimizer.param_groups)
    plain = build(config, groups_of(plain_net), CPU)
    for group in plain.param_groups:
        group["fused"], group["foreach"] = False, False
    for seed in range(3):  # gradients as drawn: AdamW blows the rounding of a gradient near 0 up to a full step
        for each, optim in ((net, optimizer), (plain_net, plain)):
            draw = torch.Generator().manual_seed(seed)
            for parameter in each.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optim.step()
    for a, b in zip(net.parameters(), plain_net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class TestClip:
    def grads(self, scale):
        net = make_net()
        optimizer = build(OptimizerConfig(), groups_of(net), CPU)
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, scale)
        norm = sum(parameter.numel() for parameter in net.parameters()) ** 0.5 * scale
        return net, optimizer, norm

    def test_scales_a_long_gradient_to_the_norm(self):
        _, optimizer, norm = self.grads(3.0)
        assert clip(optimizer, 1.0).item() == pytest.approx(norm)
        assert clip(optimizer, None).item() == pytest.approx(1.0, rel=1e-4)

    def test_leaves_a_short_one(self):
        net, optimizer, norm = self.grads(0.001)
        assert clip(optimizer, 1.0).item() == pytest.approx(norm)
        assert all((parameter.grad == 0.001).all() for parameter in net.parameters())

    def test_shows_what_is_not_finite(self):
        net, optimizer, _ = self.grads(1.0)
        net["head"].bias.grad[0] = torch.nan
        assert clip(optimizer, None).isnan()

    def test_parameters_without_gradient(self):
        assert clip(build(OptimizerConfig(), groups_of(make_net()), CPU), 1.0).item() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "addamw"}, "optimizer.name = 'addamw'.*did you mean 'adamw'"),
        ({"eps": 0}, "optimizer.eps = 0"),
        ({"smoothing": 1}, "optimizer.smoothing = 1"),
        ({"layer_decay": 0}, "optimizer.layer_decay = 0"),
        ({"layer_decay": 1.1}, "optimizer.layer_decay = 1.1"),
        ({"accumulate": 10**20}, "optimizer.accumulate = 100000000000000000000: expected a whole number of at most"),
        ({"lr": 0}, "optimizer.lr = 0"),
        ({"lr": "1e-3"}, "optimizer.lr = '1e-3'"),
        ({"momentum": 1.0}, "optimizer.momentum = 1.0"),
        ({"betas": [0.9]}, "optimizer.betas = "),
        ({"betas": [0.9, 1.0]}, r"optimizer.betas\[1\] = 1.0"),
        ({"weight_decay": -1}, "optimizer.weight_decay = -1"),
        ({"backbone_lr_scale": -0.1}, "optimizer.backbone_lr_scale = -0.1"),
        ({"clip_norm": 0}, "optimizer.clip_norm = 0"),
        ({"accumulate": 0}, "optimizer.accumulate = 0: expected a whole number, 1 or more"),
        ({"name": "adamw", "nesterov": True}, "optimizer.nesterov"),
    ],
)
def test_mistakes_name_the_key(settings, message):
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**settings)
