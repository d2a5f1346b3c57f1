"""The service: loads proven bundles and answers predictions. Installs and runs without torch."""
