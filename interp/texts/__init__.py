"""What goes in: corpora as labelled examples, label sets, and prompts."""
