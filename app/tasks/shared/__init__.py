"""What several tasks share beyond the reading of JSON: the types of their bodies, rows of features, labels."""
