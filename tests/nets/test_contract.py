"""What every registered net promises, tested on every one of them, and on its variants."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import nets

# small encoders: the contract is about the nets; families of encoders are tests/nets/test_encoders.py's
CASES: list[tuple[str, dict[str, Any]]] = [
    ("deeplabv3plus", {"backbone": "resnet18", "aux": True}),
    ("deeplabv3plus", {"backbone": "resnet18", "output_stride": 8, "separable": True}),
    ("deeplabv3plus", {"backbone": "resnet18", "separable": True, "form": "mmsegmentation"}),
    ("duc", {"backbone": "resnet18", "aux": True}),
    ("duc", {"backbone": "resnet18", "aspp": False}),
    ("enet", {}),
    ("enet", {"form": "authors"}),
    ("enet", {"decoder": False}),
    ("fcn", {"backbone": "resnet18", "aux": True}),
    ("fcn", {"backbone": "resnet18", "skips": 0, "output_stride": 8}),
    ("fcn", {"backbone": "resnet18", "skips": 0, "form": "mmsegmentation"}),
    ("fcn", {"backbone": "vit_tiny_patch16_224", "skips": 0, "aux": True}),
    ("gcn", {"backbone": "resnet18"}),
    ("gcn", {"backbone": "resnet18", "kernel_size": 7, "deconvolution": False}),
    ("linear", {"backbone": "vit_tiny_patch16_224"}),
    ("pspnet", {"backbone": "resnet18", "aux": True}),
    ("segnet", {}),
    ("segnet", {"backbone": "resnet18"}),
    ("unet", {}),
    ("unet", {"backbone": "resnet18", "aux": True}),
    ("upernet", {"backbone": "resnet18", "aux": True, "channels": 64}),
    ("upernet", {"backbone": "convnext_atto", "aux": True, "channels": 32}),
    ("upernet", {"backbone": "vit_tiny_patch16_224", "aux": True, "channels": 32}),
]
# half a gigabyte of weights each, and a wide U-Net
SLOW_CASES: list[tuple[str, dict[str, Any]]] = [
    *(("fcn", {"skips": skips}) for skips in (0, 1, 2)),
    ("unet", {"form": "mmsegmentation", "aux": True}),
]
# segmentation_models.pytorch's nets under ours
PEERS: list[tuple[str, dict[str, Any]]] = [
    (name, {"backbone": "vit_tiny_patch16_224" if name == "smp:dpt" else "resnet18"}) for name in nets.list_peers()
]
QUICK_PEER = "smp:fpn"
PARAMS = [
    pytest.param(case, id="-".join([case[0], *(str(v) for v in case[1].values())]), marks=marks)
    for cases, marks in (
        (CASES, []),
        ([case for case in PEERS if case[0] == QUICK_PEER], []),
        ([case for case in PEERS if case[0] != QUICK_PEER], [pytest.mark.slow]),
        (SLOW_CASES, [pytest.mark.slow]),
    )
    for case in cases
]
CLASSES = 5


def images(batch: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator).contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module", params=PARAMS)
def case(request: pytest.FixtureRequest) -> tuple[nets.Net, dict[str, Any]]:
    name, options = request.param
    torch.manual_seed(0)
    return nets.build(name, CLASSES, **options).to(memory_format=torch.channels_last), options


def test_every_net_is_in_the_contract() -> None:
    assert {name for name, _ in CASES} == set(nets.list_nets())


@pytest.mark.parametrize("size", [(97, 131), (64, 64), (33, 200)])
def test_eval_gives_a_tensor_at_input_size_for_one_image(case: Any, size: tuple[int, int]) -> None:
    net = case[0].eval()
    with torch.no_grad():
        out = net(images(1, *size))
    assert type(out) is torch.Tensor
    assert out.shape == (1, CLASSES, *size)
    assert torch.isfinite(out).all()


def test_backward_reaches_every_parameter(case: Any) -> None:
    net, options = case
    net.train().zero_grad()
    logits = net(images())
    assert type(logits) is nets.Logits
    assert logits.out.shape == (2, CLASSES, 64, 96)
    assert (logits.aux is not None) == bool(options.get("aux"))
    loss = logits.out.square().mean()
    if logits.aux is not None:
        assert logits.aux.shape == logits.out.shape
        loss = loss + logits.aux.square().mean()
    loss.backward()
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    # all of ours train; of a peer's, what it makes and does not read is frozen
    assert len(trained) == len(list(net.parameters())) or type(net).__name__ == "PeerNet"
    assert all(torch.isfinite(p.grad).all() for p in trained.values())


def test_state_dict_makes_the_same_net(case: Any) -> None:
    net = case[0].eval()
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net(images(1)), other(images(1)))


def test_no_module_is_used_twice(case: Any) -> None:
    net = case[0]
    all_modules = [id(m) for _, m in net.named_modules(remove_duplicate=False)]
    assert len(all_modules) == len(set(all_modules))


def test_groups_hold_every_parameter_once(case: Any) -> None:
    net = case[0]
    groups = nets.parameter_groups(net)
    assert set(groups) == {"backbone", "head"}
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    assert groups["head"]


def test_bfloat16_autocast_is_finite(case: Any) -> None:
    net = case[0].train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images())
    assert logits.out.dtype == torch.float32  # upsampled in float32, see nets/net.py
    assert logits.aux is None or logits.aux.dtype == torch.float32
    assert torch.isfinite(logits.out).all()


def test_channels_last_is_kept_through_every_layer(case: Any) -> None:
    net = case[0].eval()
    if type(net).__name__ == "PeerNet":
        pytest.skip("the layout within another library's net is that library's")
    lost = []

    def check(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            for tensor in (*inputs, output):
                # within a ViT what has four dimensions is [N,h,w,C] or [N,heads,tokens,C/heads], no map
                four = isinstance(tensor, torch.Tensor) and tensor.dim() == 4 and ".vit." not in name
                is_map = four and min(tensor.shape[1:]) > 1
                if is_map and not tensor.is_contiguous(memory_format=torch.channels_last):
                    lost.append((name, type(module).__name__, tensor.shape))

        return hook

    handles = [module.register_forward_hook(check(name)) for name, module in net.named_modules()]
    try:
        with torch.no_grad():
            net(images(2))
    finally:
        for handle in handles:
            handle.remove()
    assert lost == []
