"""A run's report.html: `python -m train.report RUN`."""
