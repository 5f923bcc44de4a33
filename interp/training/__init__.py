"""Sparse autoencoders for models that have none: trained with SAELens on one pass over the text, and measured."""
