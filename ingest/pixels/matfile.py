"""MATLAB 5 files as label sources: SBD's GTcls.Segmentation, COCO-Stuff 10k's S, or a file's only matrix."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError


def read_mat(data: bytes, name: str) -> dict[str, Any]:
    """All variables. UserError names the broken file."""
    import scipy.io  # few datasets need it, and it takes a while to load

    try:
        return scipy.io.loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)
    except NotImplementedError as error:  # HDF5 inside
        raise UserError(f"{name} is a MATLAB 7.3 file: save it again with `save -v7`, or the mask as a PNG") from error
    except Exception as error:  # scipy raises what the damage happens to break
        raise UserError(f"{name} is not a readable .mat file ({error}): fetch the file again") from error


def label_of(data: bytes, name: str, variable: str | None = None) -> NDArray[np.generic]:
    """The mask [H, W] or [H, W, 3]: `variable`, else GTcls.Segmentation (SBD), S (COCO-Stuff) or the only matrix."""
    variables = read_mat(data, name)
    if variable is not None:
        mask = variables.get(variable)
        if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "uifb" or mask.ndim < 2:
            raise UserError(f"{name} holds no matrix {variable!r}: it holds {_held(variables)}; mend `variable`")
        return mask
    if hasattr(variables.get("GTcls"), "Segmentation"):
        return np.asarray(variables["GTcls"].Segmentation)
    matrices = {
        key: value
        for key, value in variables.items()
        if isinstance(value, np.ndarray) and value.ndim >= 2 and value.dtype.kind in "uifb"
    }
    mask = matrices.get("S") if "S" in matrices or len(matrices) != 1 else next(iter(matrices.values()))
    if mask is None:
        raise UserError(
            f"{name} holds {_held(variables)}: which is the mask? Name it with `variable: ...` in the spec "
            "(known without: GTcls.Segmentation, S, or a file's only matrix)"
        )
    return mask


def _held(variables: dict[str, Any]) -> str:
    return ", ".join(key for key in variables if not key.startswith("_")) or "nothing"


def strings(variables: dict[str, Any], key: str, name: str) -> list[str]:
    """A cell array of strings."""
    if key not in variables:
        raise UserError(f"{name} has no {key!r}: it is no annotation of COCO-Stuff 10k")
    return [str(value) for value in np.atleast_1d(variables[key])]


def cells_of_text(data: bytes, name: str) -> list[str]:
    """The file's only cell array of strings, such as a list of class names; empty where there is none, or several."""
    cells = [
        [str(one) for one in value]
        for key, value in read_mat(data, name).items()
        if not key.startswith("_")
        and isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind in "OU"
        and all(isinstance(one, str) for one in value)
    ]
    return cells[0] if len(cells) == 1 else []
