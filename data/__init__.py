"""Datasets, phantoms, readers, splits and measurement sets."""
