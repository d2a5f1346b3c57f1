"""The offline trainer: reads data, trains networks, and writes the bundles that the service serves."""
