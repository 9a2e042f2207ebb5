"""What a training takes and refuses, and how it evaluates and saves."""
