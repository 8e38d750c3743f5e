"""What a browser carries instead of the token: until when it is let in, signed with the token."""

import hashlib
import hmac

NAME = "masuka_door"
SECONDS = 30 * 24 * 3600


def made(token: str, now: float) -> str:
    """`now` in seconds since 1970."""
    until = str(int(now) + SECONDS)
    return f"{until}.{_signature(token, until)}"


def is_good(value: str, token: str, now: float) -> bool:
    until, _, signature = value.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(token, until).encode()):
        return False
    return now < int(until)


def _signature(token: str, until: str) -> str:
    """Not the token itself: whoever gets hold of it is let in until then, and no longer."""
    return hmac.new(token.encode(), f"masuka door until {until}".encode(), hashlib.sha256).hexdigest()
