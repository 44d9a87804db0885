"""The CPU device: libjpeg-turbo, libdeflate and OpenCV, a thread a sample."""
