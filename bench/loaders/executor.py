"""DALI's executor, set alike for every row that runs DALI without segrail."""

from __future__ import annotations

from nvidia.dali import Pipeline

from bench.data.setting import Setting


def pipeline(setting: Setting) -> Pipeline:
    """An empty pipeline with the setting's batch size, threads, device and depth."""
    return Pipeline(
        batch_size=setting.batch,
        num_threads=setting.threads,
        device_id=0 if setting.device == "gpu" else None,
        prefetch_queue_depth=setting.prefetch,
        exec_dynamic=True,
        seed=0,
    )
