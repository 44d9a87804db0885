"""Every net compiles without graph breaks, and is exported once for every height and width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import nets

CASES: list[tuple[str, dict[str, Any]]] = [
    ("deeplabv3plus", {"backbone": "resnet18", "aux": True}),
    ("deeplabv3plus", {"backbone": "xception41", "separable": True}),
    ("duc", {"backbone": "resnet18"}),
    ("enet", {}),
    ("enet", {"form": "authors"}),
    ("fcn", {"backbone": "resnet18"}),
    ("fcn", {}),
    ("fcn", {"backbone": "resnet18", "form": "mmsegmentation"}),
    ("fcn", {"backbone": "vit_tiny_patch16_224", "skips": 0}),
    ("gcn", {"backbone": "resnet18"}),
    ("linear", {"backbone": "vit_tiny_patch16_224"}),
    ("pspnet", {"backbone": "resnet18"}),
    ("pspnet", {"backbone": "densenet121"}),
    ("segnet", {}),
    ("segnet", {"backbone": "resnet18"}),
    ("unet", {}),
    ("unet", {"form": "mmsegmentation"}),
    ("unet", {"backbone": "convnext_atto"}),
    ("unet", {"backbone": "efficientnet_b0"}),
    ("upernet", {"backbone": "resnet18", "channels": 64}),
    ("upernet", {"backbone": "convnext_atto", "channels": 32}),
    ("upernet", {"backbone": "vit_tiny_patch16_224", "channels": 32}),
    ("upernet", {"backbone": "vit_small_patch16_dinov3", "channels": 32}),
]
IDS = ["-".join([name, *(str(v) for v in options.values())]) for name, options in CASES]
QUICK = "pspnet-resnet18"  # one of each kind of test in the default run
ALL = [pytest.param(c, id=i, marks=[] if i == QUICK else pytest.mark.slow) for c, i in zip(CASES, IDS, strict=True)]
SLOW = [pytest.param(c, id=i, marks=pytest.mark.slow) for c, i in zip(CASES, IDS, strict=True)]
SIZES = [(64, 96), (75, 131), (96, 64), (33, 40)]  # the first is what is exported

DYNAMIC = torch.export.Dim.DYNAMIC


def segmenter(case: tuple[str, dict[str, Any]]) -> nets.Segmenter:
    name, options = case
    torch.manual_seed(0)
    net = nets.build(name, 5, **options)
    made = nets.Segmenter(net, [0.4, 0.4, 0.4], [0.2, 0.2, 0.2]).train()
    # running statistics of some photos: with the initial 0 and 1, eval's activations grow from layer to layer
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        made(photos(64, 96, batch=2))
    for norm in norms:
        norm.momentum = 0.1
    return made.eval().to(memory_format=torch.channels_last)


def photos(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def assert_near(ours: torch.Tensor, expected: torch.Tensor, *, unpools: bool) -> None:
    assert ours.shape == expected.shape
    scale = expected.abs().max()
    apart = (ours - expected).abs() > 1e-3 * scale
    # where a net unpools, a near tie may fall the other way in another runtime, and a value lands one pixel off
    assert apart.float().mean() < 0.01, f"{apart.sum()} logits apart"
    assert (ours.argmax(1) == expected.argmax(1)).float().mean() > 0.99
    if not unpools:
        assert not apart.any(), f"{apart.sum()} logits apart, by {(ours - expected).abs().max()} of {scale}"


def unpools(case: tuple[str, dict[str, Any]]) -> bool:
    return case[0] in ("enet", "segnet")


def test_every_net_is_exported() -> None:
    assert {name for name, _ in CASES} == set(nets.list_nets())


@pytest.mark.parametrize("case", ALL)
def test_one_graph_in_training_and_eval(case: Any) -> None:
    """No graph breaks; the compiler behind is the next test's."""
    net = segmenter(case)
    with torch.no_grad():
        expected = net(photos(64, 96))
        assert_near(
            torch.compile(net, fullgraph=True, backend="aot_eager")(photos(64, 96)), expected, unpools=unpools(case)
        )
    compiled = torch.compile(net.train(), fullgraph=True, backend="aot_eager")
    compiled(photos(64, 96, batch=2)).out.mean().backward()
    torch.compiler.reset()


# a DenseNet's hundred layers are minutes of C++ to compile; that it is one graph is the test before
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [case for case in SLOW if "densenet" not in str(case.id)])
def test_compiled_is_eager(case: Any) -> None:
    net = segmenter(case)
    with torch.no_grad():
        assert_near(torch.compile(net, fullgraph=True)(photos(64, 96)), net(photos(64, 96)), unpools=unpools(case))
    torch.compiler.reset()


@pytest.mark.parametrize("case", ALL)
def test_exported_takes_any_size(case: Any) -> None:
    net = segmenter(case)
    with torch.no_grad():
        program = torch.export.export(net, (photos(*SIZES[0]),), dynamic_shapes=({2: DYNAMIC, 3: DYNAMIC},)).module()
        for size in SIZES:
            assert_near(program(photos(*size)), net(photos(*size)), unpools=unpools(case))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", SLOW)
def test_onnx_takes_any_size(case: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = segmenter(case)
    program = torch.onnx.export(
        net, (photos(*SIZES[0]),), dynamo=True, dynamic_shapes=({2: DYNAMIC, 3: DYNAMIC},), verbose=False
    )
    assert program is not None
    program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for size in SIZES:
        (ours,) = session.run(None, {session.get_inputs()[0].name: photos(*size).contiguous().numpy()})
        with torch.no_grad():
            assert_near(torch.from_numpy(ours), net(photos(*size)), unpools=unpools(case))
