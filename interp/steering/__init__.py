"""Steering: gains on the features that cause an emotion's recognition, and how they are chosen."""

from interp.steering.steering import Gains, Gate, SteeredFeature, Steering

__all__ = ["Gains", "Gate", "SteeredFeature", "Steering"]
