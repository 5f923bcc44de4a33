"""Pure functions from arrays to tables: which features, which layers, which effects."""
