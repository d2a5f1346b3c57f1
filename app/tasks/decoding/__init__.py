"""What several tasks share when they read a body: JSON, strict and fast, pictures, and the naming of faults."""
