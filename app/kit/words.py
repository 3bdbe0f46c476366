"""Words of texts, in the form in which they are indexed and searched."""

import re
import unicodedata

WORD = re.compile(r"\w+")
MAX_READ_CHARACTERS = 2_000
MAX_WORD_CHARACTERS = 32
MAX_WORDS = 40


def words_in(text: str, limit: int = MAX_WORDS) -> list[str]:
    """Return the first different words at the beginning of a text, at most `limit`, in one case and Unicode form.

    Only the first 2,000 characters are read, and the first 32 of a word.
    """
    beginning = unicodedata.normalize("NFKC", text[:MAX_READ_CHARACTERS]).casefold()
    found: dict[str, None] = {}
    for match in WORD.finditer(beginning):
        found[match.group()[:MAX_WORD_CHARACTERS]] = None
        if len(found) == limit:
            break
    return list(found)
