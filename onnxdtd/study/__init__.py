"""What is done with compiled models: explain, verify, measure, evaluate."""
