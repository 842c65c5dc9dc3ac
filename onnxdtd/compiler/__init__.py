"""From a graph to a plan, from a plan to the relevance pass in the model's own file."""
