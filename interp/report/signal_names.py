"""What layer signals are called on a page, and what they are counted in."""

from typing import NamedTuple


class SignalName(NamedTuple):
    """A name, a unit, and whether it is a number of things, written without decimals."""

    name: str
    unit: str = ""
    counts: bool = False


SIGNALS = {
    "probe_residuals": SignalName("probe on the residual stream", "share right"),
    "probe_features": SignalName("probe on SAE features", "share right"),
    "probe_shuffled": SignalName("probe, emotions shuffled", "share right"),
    "probe_control": SignalName("probe, other task (first word)", "share right"),
    "selective_features": SignalName("selective features", "features", counts=True),
    "joint_ablation": SignalName("loss without its top 16 features", "nats"),
    "direct_evidence": SignalName("right answer, read out directly", "nats"),
    "format_share": SignalName("features active in nearly all texts", "share of active features"),
    "content_overlap": SignalName("features shared by two texts", "share of active features"),
    "fvu": SignalName("variance the SAE leaves out (FVU)", "share of variance"),
    "neighbour_agreement": SignalName("agreement with the next layer", "correlation"),
    "l0": SignalName("active features (L0)", "features per text", counts=True),
    "entropy_specific": SignalName("specific by entropy", "share of features"),
    "entropy_shuffled": SignalName("specific by entropy, emotions shuffled", "share of features"),
}


def signal_name(signal: str) -> SignalName:
    """That of a signal; its own words for one that is not known here."""
    return SIGNALS.get(signal, SignalName(signal.replace("_", " ")))
