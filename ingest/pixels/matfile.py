"""MATLAB 5 files as label sources: SBD's GTcls.Segmentation, COCO-Stuff 10k's S."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError


def read_mat(data: bytes, name: str) -> dict[str, Any]:
    """All variables. UserError names the broken file."""
    import scipy.io  # two releases need it, and it takes a while to load

    try:
        return scipy.io.loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)
    except Exception as error:  # scipy raises what the damage happens to break
        raise UserError(f"{name} is not a readable .mat file ({error}): fetch the file again") from error


def label_of(data: bytes, name: str) -> NDArray[np.uint16]:
    """The mask, uint16 [H, W]: `GTcls.Segmentation` (SBD) or `S` (COCO-Stuff 10k)."""
    variables = read_mat(data, name)
    mask = variables["GTcls"].Segmentation if "GTcls" in variables else variables.get("S")
    if mask is None or np.ndim(mask) != 2:
        held = ", ".join(key for key in variables if not key.startswith("_"))
        raise UserError(f"{name} holds {held}: looked for GTcls.Segmentation or S")
    return np.asarray(mask).astype(np.uint16)


def strings(variables: dict[str, Any], key: str, name: str) -> list[str]:
    """A cell array of strings."""
    if key not in variables:
        raise UserError(f"{name} has no {key!r}: it is no annotation of COCO-Stuff 10k")
    return [str(value) for value in np.atleast_1d(variables[key])]
