"""The recipe: one YAML file, typed and checked. Each section is a dataclass that stands beside what it configures.

`load` reads a path or the name of a shipped recipe, applies `key=value` overrides, and reports a mistake as one line
with the dotted key, the value and what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter

from ingest.errors import UserError, brief, nearest
from pipeline import checks
from pipeline import recipe as recipe_file
from pipeline.augment import Augment
from pipeline.config import DataConfig, normalized
from pipeline.plan import MAX_SEED
from train.losses.config import LossConfig
from train.optim.config import OptimizerConfig
from train.optim.schedules import ScheduleConfig

__all__ = ["RECIPES", "Recipe", "load", "parse", "shipped", "to_dict", "to_yaml"]

MOST_STEPS = 10**9  # three years at ten a second

RECIPES = Path(__file__).parent / "recipes"


@dataclass
class NetConfig:
    """Which net; see `python -m nets`."""

    name: str = "deeplabv3plus"
    """A registered net."""
    backbone: str | None = None
    """timm encoder; null: the net's default."""
    pretrained: bool = False
    """Start the encoder from timm's ImageNet weights (needs the model hub or its local cache)."""
    output_stride: int | None = None
    """Input size / encoder's output size; null: the net's default."""
    aux: bool = False
    """An auxiliary head in training, where the net has one; its weight is loss.aux_weight."""
    backbone_weights: str | None = None
    """A file with the encoder's weights, instead of the model hub: implies pretrained."""
    freeze_backbone: bool = False
    """The encoder keeps its weights and its batch-norm statistics."""
    freeze_bn: Literal[False, True, "all"] = False
    """true: the encoder's batch norms stay as they are, for pretrained encoders in small batches; all: the head's, too,
    for fine-tuning a trained net."""
    options: dict[str, Any] = field(default_factory=dict)
    """The net's own options, such as {skips: 1} for fcn; see `python -m nets NAME`."""


# What `net.options` cannot set: it is set elsewhere.
_NET_KEYS = {
    "num_classes": "the dataset's number of classes",
    "in_channels": "the dataset's number of channels",
    **{key.name: f"net.{key.name}" for key in fields(NetConfig) if key.name != "options"},
}


@dataclass
class TrainConfig:
    """The loop."""

    steps: int = 0
    """Optimizer steps in all; 0: from epochs."""
    epochs: float = 0
    """Passes over the training split; 0: from steps. Give one of the two."""
    init_from: str | None = None
    """A checkpoint, or a run folder, to fine-tune: what fits by name and shape is taken, and classes of the same name
    keep what was learned of them. Or a state dict of our net, of torchvision's FCN or DeepLabV3, or of
    segmentation_models.pytorch's U-Net, UPerNet or the net that smp:NAME names. Not read again on --resume."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: the GPU if there is one."""
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    """Autocast; auto: bf16 on GPUs that have it, else fp16; off on a CPU."""
    channels_last: bool = True
    """NHWC memory: what tensor cores and oneDNN want, and what the loader hands over."""
    compile: Literal[False, True, "loss"] = False
    """true: torch.compile the net; loss: and the loss, whose passes over the scores become fewer. The first step then
    takes minutes, which pays in long runs on GPUs only."""
    cuda_graphs: bool = False
    """Replay the net's passes as CUDA graphs: for nets of many small kernels (ENet), which the host launches slower
    than the GPU runs them; with compile, the compiler makes them. One rank, no accumulation. Off: not yet measured on
    a GPU."""
    priority_stream: bool = False
    """Queue the net's kernels on a GPU stream that goes before the loader's. Off: not yet measured on a GPU."""
    sync_bn: bool = False
    """Batch-norm statistics over all ranks."""
    tf32: bool = True
    """float32 products and convolutions in TF32 on GPUs that have it; autocast is not concerned."""
    cudnn_benchmark: bool = True
    """cuDNN times its algorithms for the crop's shape and takes the fastest; GPU only, training only."""
    deterministic: bool = False
    """On a GPU: only kernels that give the same bits each time, so that the same recipe gives the same weights there,
    too; slower, and cudnn_benchmark is off. A net or loss with a part that has no such kernel is refused at its first
    step, naming the part. On a CPU the weights are always the same."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, such as 0.999 (about the last 1000 steps); 0: none.
    With one, the average is what is validated, and what evaluate and predict take from a checkpoint."""
    val_every_steps: int = 0
    """Validate every so many steps; 0: by epochs."""
    val_every_epochs: float = 1
    """Validate every so many epochs. The last step always validates."""
    save_every_steps: int = 0
    """Write last.pt every so many steps, besides at each validation; 0: only there."""
    keep_every_steps: int = 0
    """Keep step-<N>.pt every so many steps, for good; 0: none."""
    monitor: str = "miou"
    """What makes a checkpoint the best: the validation's miou, pixel_accuracy, loss (lowest) or iou/<class>."""
    keep_best: int = 1
    """How many of the best to keep: best.pt and, above 1, best-<step>.pt for each of them."""
    patience: int = 0
    """Stop after so many validations in a row without a better one; 0: never."""
    rank_timeout: float = 5
    """Minutes until a rank that keeps the others waiting is named, and all end; of several ranks only."""
    log_every: int = 20
    """Steps between log lines; between them the host does not wait for the device (but loss.lovasz with
    loss.lovasz_classes=present asks it once a batch which classes there are)."""
    pictures: int = 4
    """Validation images shown in TensorBoard."""
    train_miou: bool = False
    """Also log the mIoU of the training crops, as the net saw them; counted on the device, read at log steps. Some per
    cent of a step on a CPU."""

    def __post_init__(self) -> None:
        for key, low, high in (
            ("steps", 0, MOST_STEPS),
            ("val_every_steps", 0, MOST_STEPS),
            ("save_every_steps", 0, MOST_STEPS),
            ("keep_every_steps", 0, MOST_STEPS),
            ("keep_best", 1, 1000),
            ("patience", 0, MOST_STEPS),
            ("log_every", 1, MOST_STEPS),
            ("pictures", 0, 1000),
        ):
            checks.whole(f"train.{key}", getattr(self, key), low, high)
        for key in ("epochs", "val_every_epochs"):
            checks.number(f"train.{key}", getattr(self, key), "[0, 1e6]")
        checks.number("train.ema", self.ema, "[0, 1)")
        checks.number("train.rank_timeout", self.rank_timeout, "(0, 1000]")
        scores = ("miou", "pixel_accuracy", "loss", "iou/<class>")
        if self.monitor not in scores[:3] and not self.monitor.startswith("iou/"):
            raise UserError(
                f"train.monitor = {brief(self.monitor)} is no validation score{nearest(self.monitor, scores)}"
            )


@dataclass
class Recipe:
    """A whole training run."""

    name: str = "run"
    """Run folders are saved/<name>/<time>."""
    seed: int = 0
    """Fixes the weights' start, the data stream and dropout."""
    output: str = "saved"
    """Folder of all runs."""
    data: DataConfig = field(default_factory=DataConfig)
    augment: Augment = field(default_factory=Augment)
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def shipped() -> list[str]:
    """Names of the recipes that come with segrail."""
    return recipe_file.shipped([RECIPES])


def load(recipe: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Reads a recipe file, or a shipped one by name, with `key=value` overrides (dotted keys, YAML values)."""
    raw = recipe_file.read(recipe, [RECIPES])
    given = {override.partition("=")[0] for override in overrides}
    # A length given on the command line replaces the recipe's, in whichever of the two units.
    for length, other in (("train.steps", "train.epochs"), ("train.epochs", "train.steps")):
        if length in given and other not in given:
            overrides = [*overrides, f"{other}=0"]
    for override in overrides:
        recipe_file.apply(raw, override)
    return parse(raw)


def parse(raw: dict[str, Any]) -> Recipe:
    """A checked Recipe from nested plain values. UserError names the dotted key."""
    recipe = recipe_file.validated(Recipe, {key: normalized(key, value) for key, value in raw.items()})
    _check(recipe)
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Nested plain values, as YAML and checkpoints hold them; `parse` reads them back."""
    return TypeAdapter(Recipe).dump_python(recipe, mode="json")


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe, defaults and all."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False)


def _check(recipe: Recipe) -> None:
    """What no section can know alone."""
    data, train = recipe.data, recipe.train
    checks.whole("seed", recipe.seed, 0, MAX_SEED)
    if not re.fullmatch(r"[\w.+=@-]{1,100}", recipe.name) or set(recipe.name) == {"."}:
        raise UserError(
            f"name = {brief(recipe.name)}: runs go to output/<name>/<time>: expected up to 100 letters, digits or any "
            "of . _ - + = @, no / (the folder is `output`)"
        )
    if bool(train.steps) == bool(train.epochs):
        raise UserError(
            f"train.steps = {train.steps} and train.epochs = {train.epochs:g}: give one of them and leave the other 0"
        )
    if data.val and not (train.val_every_steps or train.val_every_epochs):
        raise UserError(
            "train.val_every_steps and train.val_every_epochs are both 0: give one; or `data.val=` for none"
        )
    if train.patience and not data.val:
        raise UserError(f"train.patience = {train.patience} needs validations: give data.val, or leave patience at 0")
    for key in recipe.net.options:
        if key in _NET_KEYS:
            raise UserError(f"net.options.{key} = {brief(recipe.net.options[key])}: that key is {_NET_KEYS[key]}")
    if recipe.net.aux and not recipe.loss.aux_weight:
        raise UserError("loss.aux_weight = 0, but net.aux = true: that head would learn nothing; set net.aux=false")
    if data.cache == "gpu" and train.device == "cpu":
        raise UserError("data.cache = gpu needs train.device = gpu (or auto): the images would lie on the GPU")
    if data.device == "gpu" and train.device == "cpu":
        raise UserError("data.device = gpu needs train.device = gpu (or auto): the batches would land on the GPU")
    if train.amp == "fp16" and train.device == "cpu":
        raise UserError("train.amp = fp16 needs a GPU: on a CPU use bf16 or off")
