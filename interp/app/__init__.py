"""A page to try a model on: what it reads in a text, which features are behind its answer, and what steering does."""
