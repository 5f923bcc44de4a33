"""Scores of recognition and of language, and the statistics behind every interval."""
