"""What a paper claims, beside what runs found, from their files alone."""

from interp.findings.claims import CLAIMS, Claim, Finding, Verdict
from interp.findings.measuring import RunFindings, measure
from interp.findings.page import write_findings

__all__ = ["CLAIMS", "Claim", "Finding", "RunFindings", "Verdict", "measure", "write_findings"]
