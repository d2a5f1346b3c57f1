"""Several processes that serve one port: the parent that keeps them alive, the worker, and what they share."""
