"""Recipe keys for GPUs, as far as a CPU can tell: captures, the compiled loss, what is told without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nets
from ingest.errors import UserError
from train import backends, build, config, graphs
from train.distributed import Ranks, joined
from train.run import Run

CPU = torch.device("cpu")


def segmenter(name: str = "enet", **options: Any) -> nets.Segmenter:
    torch.manual_seed(0)
    return nets.Segmenter(nets.build(name, num_classes=5, **options), [0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize("aux", [False, True])
def test_a_capture_leaves_the_net_as_it_was(aux: bool) -> None:
    net = segmenter("pspnet", backbone="resnet18", aux=True) if aux else segmenter()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    seen: list[tuple[Tensor, ...]] = []

    def capture(module: nn.Module, given: tuple[Tensor, ...]) -> nn.Module:
        """As torch's: some passes forward and back before the net is used."""
        for _ in range(3):
            sum(score.sum() for score in module(*given)).backward()
        seen.append(given)
        assert not torch.is_autocast_cache_enabled()
        return module

    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    forward = graphs.captured(net, images, torch.bfloat16, capture)
    assert len(seen) == 1 and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    torch.manual_seed(1)
    found = forward(images)
    net.load_state_dict(state)
    torch.manual_seed(1)
    expected = net(images)
    assert torch.equal(found.out, expected.out) and (found.aux is None) == (not aux)
    assert not aux or torch.equal(found.aux, expected.aux)  # type: ignore[arg-type]


def test_where_graphs_cannot_be_used() -> None:
    graphs.check(1, 1)
    with pytest.raises(UserError, match=r"train\.cuda_graphs = true is for one rank"):
        graphs.check(2, 1)
    with pytest.raises(UserError, match=r"optimizer\.accumulate = 2"):
        graphs.check(1, 2)


def made(raw: dict[str, Any], folder: Path, ranks: Ranks, **train: Any) -> Run:
    raw = raw | {"train": raw["train"] | train}
    return build.run(config.parse(raw), ranks, folder)


def test_a_cpu_says_which_keys_do_nothing(
    raw_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with joined("cpu") as ranks:
        run = made(raw_recipe, tmp_path, ranks, cuda_graphs=True, priority_stream=True)
        assert run.forward is run.net and run.loss_forward is run.loss
        told = capsys.readouterr().err
        assert told == "note: without a GPU train.cuda_graphs, train.priority_stream: no effect\n"
        made(raw_recipe, tmp_path, ranks)
        assert capsys.readouterr().err == ""
    with backends.prioritized(True, CPU):
        pass
    with pytest.raises(UserError, match=r"data\.cache = gpu needs train\.device = gpu"):
        config.parse(raw_recipe | {"data": raw_recipe["data"] | {"cache": "gpu"}})


def test_net_and_loss_are_compiled_as_asked(
    raw_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def compiled(module: nn.Module, mode: str | None = None) -> nn.Module:
        asked.append((type(module).__name__, mode))
        return module

    monkeypatch.setattr(torch, "compile", compiled)
    with joined("cpu") as ranks:
        for value, expected in (
            (False, []),
            (True, [("Segmenter", None)]),
            ("loss", [("SegmentationLoss", None), ("Segmenter", None)]),
        ):
            asked.clear()
            made(raw_recipe, tmp_path, ranks, compile=value)
            assert asked == expected


@pytest.mark.gpu
def test_graphs_train_as_eager_does_on_a_gpu() -> None:
    gpu = torch.device("cuda", torch.cuda.current_device())
    losses = {}
    for graphed in (False, True):
        net = segmenter().to(gpu)
        images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        images = images.to(gpu).to(memory_format=torch.channels_last)
        forward = graphs.captured(net, images, None) if graphed else net
        optimizer, found = torch.optim.SGD(net.parameters(), lr=0.01), []
        for step in range(5):
            torch.manual_seed(step)
            loss = forward(images).out.square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            found.append(loss.item())
        losses[graphed] = found
    assert losses[True] == pytest.approx(losses[False], rel=1e-2)
