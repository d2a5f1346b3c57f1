"""From a trained network to a bundle: one file per format, the proof, and the folder."""
