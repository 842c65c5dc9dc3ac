"""Inputs: what a sample of a model looks like, how it is read from files, how its relevance is drawn."""
