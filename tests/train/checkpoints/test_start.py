"""`train.init_from`: what is taken of a checkpoint, by name, shape and class; what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from ingest.errors import UserError
from train import config, model
from train.__main__ import command
from train.checkpoints import start
from train.checkpoints.state import DatasetFacts, State
from train.config import NetConfig

CLASSES = ["road", "sky", "car"]
SMALL = {
    "enet": {},
    "segnet": {},
    "fcn": {"backbone": "resnet18"},
    "unet": {"backbone": "resnet18"},
    "gcn": {"backbone": "resnet18"},
    "duc": {"backbone": "resnet18"},
    "pspnet": {"backbone": "resnet18", "aux": True},
    "deeplabv3plus": {"backbone": "resnet18"},
    "upernet": {"backbone": "resnet18"},
}


def facts(classes: list[str], channels: int = 3) -> DatasetFacts:
    stats = {"mean": [0.5] * channels, "std": [0.25] * channels, "channels": channels, "ignore": 255}
    return DatasetFacts(  # type: ignore[typeddict-item]
        name="toy", classes=classes, palette=[[9, 9, 9]] * len(classes), pixels=None, raw_ids=None, **stats
    )


def checkpointed(net: NetConfig, classes: list[str] = CLASSES, channels: int = 3) -> State:
    """As a checkpoint: every weight drawn, so that one in the wrong place shows."""
    torch.manual_seed(1)
    built = model.build(net, facts(classes, channels), None)
    weights = {
        name: value + 0.02 * torch.randn_like(value) if value.is_floating_point() and value.ndim else value
        for name, value in built.state_dict().items()
        if not name.endswith("running_var")
    }
    weights |= {
        name: value for name, value in built.state_dict().items() if name.endswith(("running_var", "mean", "std"))
    }
    recipe = {"net": {**vars(copy.deepcopy(net))}}
    return State(model=weights, config=recipe, dataset=facts(classes, channels), step=8, ema=None)


def logits(net: torch.nn.Module, channels: int = 3) -> torch.Tensor:
    images = torch.randint(0, 255, (1, channels, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        return net.eval()(images)


@pytest.mark.parametrize("name", SMALL)
def test_classes_in_another_order_are_the_same_classes(name: str) -> None:
    settings = NetConfig(name, **SMALL[name])
    state = checkpointed(settings)
    same, line = start.build(settings, facts(CLASSES), state, "x.pt")
    assert line.endswith("; all 3 classes are known") and "anew" not in line
    before = logits(same)
    turned, _ = start.build(settings, facts(["car", "road", "sky"]), state, "x.pt")
    torch.testing.assert_close(logits(turned), before[:, [2, 0, 1]], rtol=1e-4, atol=1e-4 * before.abs().max().item())


def test_new_classes_start_anew_and_known_ones_keep_their_rows() -> None:
    settings = NetConfig("unet", "resnet18")
    state = checkpointed(settings)
    more, line = start.build(settings, facts(["sky", "pole", "car", "sign"]), state, "x.pt")
    found, old = more.state_dict()["net.classifier.weight"], state["model"]["net.classifier.weight"]
    assert torch.equal(found[[0, 2]], old[[1, 2]])
    assert not any(torch.equal(found[row], theirs) for row in (1, 3) for theirs in old)
    assert line.endswith("classes known: sky, car; new: pole, sign") and "(unet on toy, step 8)" in line
    none, line = start.build(settings, facts(["a", "b", "c"]), state, "x.pt")  # as many, and none of them known
    assert "anew: net.classifier.weight, net.classifier.bias; classes known: none; new: a, b, c" in line
    assert torch.equal(none.state_dict()["net.encoder.model.conv1.weight"], _conv1(state))


def _conv1(state: State) -> torch.Tensor:
    return state["model"]["net.encoder.model.conv1.weight"]


def test_averages_are_what_is_taken() -> None:
    settings = NetConfig("enet")
    state = checkpointed(settings)
    average = {"net.classifier.bias": torch.tensor([5.0, 6.0, 7.0])}
    net, _ = start.build(settings, facts(CLASSES), {**state, "ema": {"steps": 3, "average": average}}, "x.pt")
    assert torch.equal(net.state_dict()["net.classifier.bias"], average["net.classifier.bias"])


def test_other_bands_cost_the_first_layer_alone() -> None:
    settings = NetConfig("unet", "resnet18")
    state = checkpointed(settings)
    net, line = start.build(settings, facts(CLASSES, channels=4), state, "x.pt")
    assert "anew: mean, std, net.encoder.model.conv1.weight; all 3 classes" in line
    assert logits(net, channels=4).shape == (1, 3, 64, 96)


def test_of_another_net_the_encoder_is_taken() -> None:
    state = checkpointed(NetConfig("pspnet", "resnet18"))
    net, line = start.build(NetConfig("deeplabv3plus", "resnet18"), facts(CLASSES), state, "x.pt")
    assert line.endswith(" tensors, the encoder's; the rest starts anew")
    assert torch.equal(net.state_dict()["net.encoder.model.conv1.weight"], _conv1(state))
    assert not torch.equal(net.state_dict()["net.classifier.bias"], state["model"]["net.classifier.bias"])


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        (NetConfig("unet", "resnet18"), NetConfig("unet", "resnet34"), r"its encoder is another one \(net\.encoder"),
        (NetConfig("unet", "resnet34"), NetConfig("unet", "resnet18"), r"another one.*, absent here\)"),
        (NetConfig("enet"), NetConfig("unet", "resnet18"), r"its encoder is another one \(net\.encoder.* is absent"),
        (NetConfig("unet", "resnet18"), NetConfig("enet"), "is a unet, and enet has no separate encoder"),
    ],
)
def test_what_cannot_be_taken_is_one_line(was: NetConfig, now: NetConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        start.build(now, facts(CLASSES), checkpointed(was), "x.pt")
    assert "train.init_from = 'x.pt'" in str(error.value) and "\n" not in str(error.value)


def test_from_the_command_line(raw_recipe: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    """A run that is resumed does not start from there again."""
    recipe = tmp_path / "r.yaml"
    raw_recipe["data"] |= {"val": ""}
    raw_recipe["train"] |= {"steps": 1, "init_from": str(trained.parent.parent)}
    recipe.write_text(yaml.safe_dump(raw_recipe))
    words = ["--cfg", str(recipe), "--resume", "auto"]
    first = CliRunner().invoke(command, words, catch_exceptions=False)
    (line,) = [line for line in first.output.splitlines() if line.startswith("started from ")]
    assert "(enet on toy, step " in line and line.endswith("; all 5 classes are known")
    again = CliRunner().invoke(command, [*words, "train.steps=2"], catch_exceptions=False)
    assert "started from" not in again.output and "from step 1" in again.output
    missing = CliRunner().invoke(command, ["--cfg", str(recipe), "train.init_from=none.pt"])
    assert isinstance(missing.exception, UserError) and "checkpoint none.pt does not exist" in str(missing.exception)
    (log,) = (tmp_path / "saved" / "toy").glob("*/log.jsonl")
    assert '"what": "weights"' in log.read_text()


def test_the_recipe_keeps_what_it_asks_for(raw_recipe: dict[str, Any]) -> None:
    """Nothing is downloaded for a pretrained recipe that starts from a checkpoint."""
    settings = config.parse(
        raw_recipe | {"net": {"name": "deeplabv3plus", "backbone": "resnet18", "pretrained": True}}
    ).net
    start.build(settings, facts(CLASSES), checkpointed(NetConfig("deeplabv3plus", "resnet18")), "x.pt")
    assert settings.pretrained and settings.options
