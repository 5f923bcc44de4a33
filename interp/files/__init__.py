"""Files on disk: written whole or not at all, with their size and hash, read back as written."""
