"""Representation learning for the 12-lead electrocardiogram in JAX."""

__version__ = '0.1.0'
