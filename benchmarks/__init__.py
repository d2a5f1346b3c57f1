"""The service beside plain FastAPI and the floors, on one machine in one run: ``python -m benchmarks``."""
