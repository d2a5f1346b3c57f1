"""Commands of ``python -m training`` that are more than a few lines, one module each."""
