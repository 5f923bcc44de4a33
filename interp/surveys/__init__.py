"""Asking a model many things: EXPRESS's self-disclosed emotions, and whether answers survive the way of asking."""
