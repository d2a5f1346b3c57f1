"""Preparation of text and images: one copy, used by serving and by training, so the two cannot drift apart."""
