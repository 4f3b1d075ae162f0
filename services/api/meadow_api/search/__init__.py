"""The search language: from text to a condition that SQL understands."""
