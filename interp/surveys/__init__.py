"""Asking a model many things: EXPRESS, reliability, and what any survey needs, whatever it asks."""
