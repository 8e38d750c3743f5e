"""What opens the door, and what is answered to what does not."""

import hmac
import time
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from api.domain import door_cookie
from api.domain.tries import Tries
from api.errors import UnauthorizedError
from api.routes.problems import answer, problem

HINT = "Send `Authorization: Bearer <MASUKA_API_TOKEN>`; `masuka token` shows one that was made here."


class TooManyTriesError(UnauthorizedError):
    """Too many wrong tokens came from here; the right one opens all the same."""

    status = 429
    title = "Too many requests"
    default_code = "too_many_tries"


class Lock:
    """One token for everything, and the memory of failed tries. Every comparison takes the same time."""

    def __init__(self, token: str) -> None:
        self.token = token
        """Empty when none is wanted."""
        self._tries = Tries()

    def opens(self, given: str) -> bool:
        return hmac.compare_digest(given.strip().encode(), self.token.encode())

    def has_bearer(self, headers: Headers) -> bool:
        return self.opens(_shown(headers) or "")

    def has_cookie(self, headers: Headers) -> bool:
        value = cookie_in(headers, door_cookie.NAME)
        return value is not None and door_cookie.is_good(value, self.token, time.time())

    def let_in(self, response: Response, scope: Scope) -> None:
        """Have the browser keep the cookie."""
        response.set_cookie(
            door_cookie.NAME,
            door_cookie.made(self.token, time.time()),
            max_age=door_cookie.SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )

    def refused(self, scope: Scope, headers: Headers) -> Response:
        """For a request without the token, or with a wrong one, which counts as a try."""
        return self.turned_away(scope) if _shown(headers) is not None else answer(problem(_unauthorized()))

    def turned_away(self, scope: Scope) -> Response:
        """For a wrong token or key: 401, or 429 when there were too many."""
        client = scope.get("client")
        wait_seconds = self._tries.failed(client[0] if client else "", time.monotonic())
        if wait_seconds == 0:
            return answer(problem(_unauthorized()))
        response = answer(problem(TooManyTriesError(hint="Wait before the next try, and look at the token.")))
        response.headers["Retry-After"] = str(int(wait_seconds) + 1)
        return response


def _unauthorized() -> UnauthorizedError:
    return UnauthorizedError("A valid token is needed.", code="token_invalid", hint=HINT)


def _shown(headers: Headers) -> str | None:
    """The token that came along; None when none did, for asking is no try."""
    value = headers.get("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def cookie_in(headers: Headers, name: str) -> str | None:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if cookie is None else cookie.value
