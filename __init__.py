"""Unrolled networks and compressed sensing for medical image reconstruction, on shared physics operators."""

__version__ = "0.1.0"
