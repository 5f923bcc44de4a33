"""Names of the ways in which a rating is turned up or taken out, as tables and pages call them."""

FEATURES, SINGLE, CONTROLS = "features", "features one by one", "control features"
DIRECTION, WITHIN, RANDOM = "direction", "direction within emotions", "random direction"
METHODS = (FEATURES, SINGLE, CONTROLS, DIRECTION, WITHIN, RANDOM)
