"""An exported ONNX file in 8-bit arithmetic: onnxruntime's static quantization, calibrated on the dataset's images.

Weights are int8 per output channel, activations uint8, as QDQ nodes, which onnxruntime, TensorRT and OpenVINO read.
What it costs is measured: the mIoU of both files on the same labeled images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ingest.errors import UserError
from ingest.shards import atomic
from train.evaluate.metrics import ConfusionMatrix
from train.export.formats import INPUT, quiet, reader

Labeled = tuple[Tensor, Tensor | None]


def quantize(path: Path, images: Sequence[Tensor], out: Path) -> None:
    """Writes the 8-bit version of the ONNX file `path` to `out`. images: uint8 [1,C,H,W], what it is calibrated on.

    UserError where onnxruntime is not installed.
    """
    try:
        quantization: Any = import_module("onnxruntime.quantization")
        onnx: Any = import_module("onnx")
    except ImportError as error:
        raise UserError("--int8 needs onnxruntime and onnx: pip install onnxruntime onnx") from error

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(tqdm(images, desc="calibrate", unit="image", leave=False, disable=None))

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {INPUT: image.numpy()}

    with tempfile.TemporaryDirectory(prefix="segrail-int8-") as folder, quiet(), atomic.replacing(out) as partial:
        prepared = Path(folder) / "prepared.onnx"
        quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(partial),
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "ConvTranspose", "MatMul", "Gemm"],
        )
        model = onnx.load(str(partial))
        kept = {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
        onnx.helper.set_model_props(model, kept)
        onnx.save(model, str(partial))


def miou(path: Path, samples: Sequence[Labeled], classes: int) -> float | None:
    """Of an exported file on labeled images; None where no pixel counts."""
    with quiet():
        net = reader(path)
    matrix = ConfusionMatrix(classes, "cpu")
    for image, label in tqdm(samples, desc="score", unit="image", leave=False, disable=None):
        assert label is not None
        with torch.no_grad():
            found = net(image)
        matrix.update(found if found.ndim == 4 else found.long(), label)
    return matrix.result().miou
