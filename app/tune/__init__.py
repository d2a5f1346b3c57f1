"""``python -m app tune``: measures a model on this machine, and writes beside its bundle what serves it best here."""
