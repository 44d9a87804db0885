"""What a run writes and shows: log.jsonl, TensorBoard, progress, charts, versions."""
