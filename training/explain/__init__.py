"""Why a network answers as it does, told offline, and whether what is told can be believed.

- :mod:`~training.explain.gradients`: saliency and integrated gradients, for any network that takes floats.
- :mod:`~training.explain.grad_cam`: where the last convolution looks, by Grad-CAM and HiResCAM.
- :mod:`~training.explain.occlusion`: what hiding a part does; needs no gradients.
- :mod:`~training.explain.tables`: Shapley values and permutation importance of named numbers.
- :mod:`~training.explain.texts`, :mod:`~training.explain.attention`: tokens, and what attends to what.
- :mod:`~training.explain.series`: time by channel.
- :mod:`~training.explain.reconstructions`: where a reconstruction fails, and what a code's numbers do.
- :mod:`~training.explain.sanity`, :mod:`~training.explain.deletion`: two tests that an explanation has to pass.
- :mod:`~training.explain.pictures`, :mod:`~training.explain.report`: what of it goes into a bundle's ``report/``.

The functions take modules and tensors and draw from no global generator. Importing the modules loads captum, which
takes seconds: import them where they are used.
"""
