"""The hybrid network, and the convex programme that may have the last word."""

from __future__ import annotations
