"""The average by its definition, the loan to the net and back, and going on from a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ingest.errors import UserError
from train.checkpoints import checkpoint
from train.optim.ema import Ema, decay_at


def make_net(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.PReLU(), nn.Conv2d(width, 2, 1))


def step(net, seed):
    """Something that changes parameters and running statistics."""
    draw = torch.Generator().manual_seed(seed)
    net.train()(torch.randn(2, 3, 6, 6, generator=draw).to(net[0].weight.dtype))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def averaged(module):
    """What is averaged: all but the counts."""
    return {name: value for name, value in values(module).items() if value.is_floating_point()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_equals_the_definition():
    net = make_net().double()
    ema = Ema(net, 0.3)
    expected = averaged(net)
    assert "1.running_var" in expected and "1.num_batches_tracked" not in expected
    for s in range(6):
        step(net, s)
        ema.update(net)
        d = min(0.3, (1 + s) / (10 + s))
        expected = {name: d * expected[name] + (1 - d) * value for name, value in averaged(net).items()}
    found = ema.state_dict()
    assert found["steps"] == 6 and found["average"].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found["average"][name], value, rtol=1e-12, atol=1e-12)


def test_a_step_gathers_no_names(monkeypatch):
    """A thousand tensors are found once, not at every step; those of another net are its own."""
    net, other = make_net(), make_net()
    ema = Ema(net, 0.5)
    step(net, 0)

    def none(*_, **__):
        raise AssertionError("gathered again")

    for method in ("state_dict", "named_parameters", "named_buffers"):
        monkeypatch.setattr(net, method, none)
    ema.update(net)
    with ema.averaged(net):
        pass
    ema.copy_to(other)
    assert torch.equal(other[0].weight, ema.state_dict()["average"]["0.weight"])


def test_decay_warms_up_and_ends_where_told():
    assert [decay_at(0.9, s) for s in (0, 1, 8, 79, 80, 81, 10**6)] == pytest.approx(
        [0.1, 2 / 11, 0.5, 80 / 89, 0.9, 0.9, 0.9]
    )
    assert decay_at(0.0, 5) == 0


def test_decay_of_zero_is_the_net_itself():
    net = make_net()
    ema = Ema(net, 0.0)
    step(net, 0)
    ema.update(net)
    assert same(averaged(net), ema.state_dict()["average"])


def test_training_never_feels_it():
    watched, alone = make_net(), make_net()
    ema = Ema(watched, 0.9)
    for s in range(3):
        step(watched, s)
        ema.update(watched)
        with ema.averaged(watched):
            pass
        step(alone, s)
    assert same(values(watched), values(alone))


def test_the_net_holds_the_average_within_the_block_only():
    net = make_net()
    ema = Ema(net, 0.9)
    for s in range(3):
        step(net, s)
        ema.update(net)
    own, tensors = values(net), [parameter.data_ptr() for parameter in net.parameters()]
    with ema.averaged(net):
        inside = values(net)
        assert [parameter.data_ptr() for parameter in net.parameters()] == tensors
    assert same(values(net), own)
    counts = {name for name in own if name not in averaged(net)}
    assert same({name: inside[name] for name in inside if name not in counts}, ema.state_dict()["average"])
    assert counts and all(torch.equal(inside[name], own[name]) for name in counts)
    for name in ("0.weight", "1.running_mean"):
        assert not torch.equal(inside[name], own[name])


def test_buffers_that_are_constant_are_left_alone():
    net = make_net()
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    ema = Ema(net, 0.9)
    for s in range(3):
        step(net, s)
        ema.update(net)
    with ema.averaged(net):
        assert net.mask.tolist() == [0.0, -torch.inf]
    assert "mask" not in ema.state_dict()["average"]


def test_statistics_are_the_averages_that_ranks_must_share():
    net = make_net()
    ema = Ema(net, 0.9)
    average = ema.state_dict()["average"]
    assert {id(tensor) for tensor in ema.statistics()} == {
        id(average[name]) for name in ("1.running_mean", "1.running_var")
    }


def test_copied_for_good_into_another_net():
    net = make_net()
    ema = Ema(net, 0.9)
    step(net, 0)
    ema.update(net)
    other = make_net()
    ema.copy_to(other)
    assert same(averaged(other), ema.state_dict()["average"])


def test_own_weights_come_back_after_an_error():
    net = make_net()
    ema = Ema(net, 0.9)
    step(net, 0)
    ema.update(net)
    own = values(net)
    with pytest.raises(KeyError), ema.averaged(net):
        raise KeyError
    assert same(values(net), own)
    ema.update(net)  # and it goes on


def test_never_averages_or_lends_twice():
    net = make_net()
    ema = Ema(net, 0.9)
    with ema.averaged(net):
        with pytest.raises(RuntimeError, match="outside of `averaged`"):
            ema.update(net)
        with pytest.raises(RuntimeError, match="does not nest"), ema.averaged(net):
            pass


def test_saved_and_loaded_goes_on_bit_for_bit(tmp_path):
    net = make_net()
    ema = Ema(net, 0.9)
    for s in range(3):
        step(net, s)
        ema.update(net)
    checkpoint.save(tmp_path / "last.pt", {"ema": ema.state_dict()})
    other = copy.deepcopy(net)
    resumed = Ema(make_net(), 0.9)
    resumed.load_state_dict(checkpoint.load(tmp_path / "last.pt")["ema"])
    for s in range(3, 6):
        for each, average in ((net, ema), (other, resumed)):
            step(each, s)
            average.update(each)
    assert resumed.steps == ema.steps == 6
    assert same(resumed.state_dict()["average"], ema.state_dict()["average"])


def test_channels_last_stays():
    net = make_net().to(memory_format=torch.channels_last)
    ema = Ema(net, 0.9)
    ema.update(net)
    assert ema.state_dict()["average"]["0.weight"].is_contiguous(memory_format=torch.channels_last)


def test_shared_and_frozen_parameters():
    net = make_net()
    net.append(net[3])  # the same layer twice
    net[0].requires_grad_(False)
    ema = Ema(net, 0.9)
    for _ in range(3):
        ema.update(net)
    assert torch.equal(ema.state_dict()["average"]["0.weight"], net[0].weight)
    with ema.averaged(net):
        assert net[4].weight is net[3].weight


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_net(width=5), r"0\.weight is of shape \[5, 3, 3, 3\] there and of shape \[4, 3, 3, 3\] here"),
        (make_net()[:3], r"3\.weight is missing there"),
        (make_net().append(nn.Conv2d(2, 2, 1)), r"4\.weight is of shape \[2, 2, 1, 1\] there and missing here"),
    ],
)
def test_of_another_net(other, message):
    ema = Ema(make_net(), 0.9)
    before = values(make_net())
    with pytest.raises(UserError, match=message):
        ema.load_state_dict(Ema(other, 0.9).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in ema.state_dict()["average"].items())


@pytest.mark.gpu
def test_never_waits_for_a_gpu():
    net = make_net().cuda()
    ema = Ema(net, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ema.update(net)
        with ema.averaged(net):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
