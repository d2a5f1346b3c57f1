"""Tells whether bundles are signed, and are what was signed."""
