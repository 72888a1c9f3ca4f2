"""Compares programs that find duplicate images: `python -m benchmarks.duplicates`."""
