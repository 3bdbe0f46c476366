"""Programs for those who maintain the repository."""
