"""Files that people name in settings and on the command line."""


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return why a text file cannot be read, in the operating system's words."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return error.strerror or type(error).__name__
