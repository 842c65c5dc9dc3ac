"""What explanations of a model depend on, measured preset by preset."""
