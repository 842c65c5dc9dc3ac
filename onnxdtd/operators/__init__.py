"""What is known of each operator: its linear maps, how it moves entries, its slopes, where its axes come from."""
