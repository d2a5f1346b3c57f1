"""Between the doors and the runtimes: the catalog of models, the queue of each, and the one way to a prediction."""
