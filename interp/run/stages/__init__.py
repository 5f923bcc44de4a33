"""The stages of a run: each a pure function of files that writes files."""
