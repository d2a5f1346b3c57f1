"""A neural network from scratch, in NumPy and nothing else; read it in this order.

``perceptron``, the smallest case; ``activations``, ``losses`` and ``initialization``; ``network``, forward and backward
by hand; ``optimizers`` and ``batches``; ``fitting``, the loop; ``gradient_check``, the proof that backward is right;
``model``, the network between the scales of the data, as it is served.

Shape suffixes: B rows of the batch, N rows of a split, I inputs and O outputs of a layer, F features, K outputs of the
network, C classes. All arrays are float64 while training, float32 as served.
"""
