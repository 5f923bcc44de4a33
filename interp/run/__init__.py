"""One run: its configuration, its folder, its stages and their order."""
