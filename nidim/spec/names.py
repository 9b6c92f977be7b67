"""What names look like, as a pattern and in words for who gave another."""

from __future__ import annotations

MOST = 63
"""Characters of a name."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
ENCODER_PATTERN = r"^(enc_[0-9a-z]{1,60}|[a-z0-9][a-z0-9._-]{0,62}([@:][a-z0-9._-]{1,63})?)$"
IN_WORDS = {
    NAME_PATTERN: "a name has small letters, digits and . _ - only, begins with a letter or a digit, and has 63 "
    "characters at most",
    ENCODER_PATTERN: "an encoder is given as name, name@version, name:alias or by its id, in small letters, digits and "
    ". _ -; a directory is none",
}
