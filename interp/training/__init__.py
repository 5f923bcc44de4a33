"""Sparse autoencoders for models that have none: trained with SAELens on one pass over the text, and measured."""

from interp.training.card import Card, quality_card
from interp.training.config import TrainingConfig, load_training_config
from interp.training.measuring import check_saes_quality
from interp.training.running import Trained, train_saes

__all__ = [
    "Card",
    "Trained",
    "TrainingConfig",
    "check_saes_quality",
    "load_training_config",
    "quality_card",
    "train_saes",
]
