"""The service: loads proven bundles and answers predictions. Installs and runs without torch."""

__version__ = "0.1.0"
