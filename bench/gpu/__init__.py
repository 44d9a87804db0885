"""The first ten minutes on a GPU: stages that `bash bench/on_gpu.sh` runs one by one, each with a JSON of its own.

`python -m bench.gpu STAGE FOLDER` runs one; `python -m bench.gpu_report FOLDER` makes tables of what they wrote.
"""
