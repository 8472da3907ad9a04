"""The image service: images, who sees them, and their bytes.

The service kept as the example for the others; read `api.py` first.
"""
