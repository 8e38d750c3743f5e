"""What ngrok's error codes mean for the owner, and how long it is no use to try again. Pure."""

import re
from dataclasses import dataclass

from api.errors import MasukaError

SOON, LATER, SELDOM = 10.0, 300.0, 3600.0
_CODE = re.compile(r"ERR_NGROK_(\d+)")


class TunnelError(MasukaError):
    """There is no tunnel now."""

    title = "No tunnel"
    default_code = "tunnel_failed"

    def __init__(self, detail: str, *, pause_seconds: float = SOON, code: str | None = None, hint: str = "") -> None:
        super().__init__(detail, code=code, hint=hint or None)
        self.pause_seconds = pause_seconds
        """Before the next try."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    numbers: frozenset[int]
    code: str
    detail: str
    hint: str
    pause_seconds: float


_MEANINGS = (
    _Meaning(
        frozenset({105, 106, 107, 4018}),
        "ngrok_token_invalid",
        "ngrok does not know the token in NGROK_AUTH_TOKEN.",
        "Copy it anew from https://dashboard.ngrok.com/get-started/your-authtoken, and start again.",
        SELDOM,
    ),
    _Meaning(
        frozenset({108}),
        "ngrok_sessions_limit",
        "This ngrok account runs as many agents as it may.",
        "End the others at https://dashboard.ngrok.com/agents, such as one on a machine that is gone.",
        60.0,
    ),
    _Meaning(
        frozenset({324, 334, 350}),
        "ngrok_endpoint_taken",
        "The address of this ngrok account is used by another agent.",
        "End that one at https://dashboard.ngrok.com/endpoints.",
        60.0,
    ),
    _Meaning(
        frozenset({718, 720, 725, 726, 727, 4027}),
        "ngrok_limit_reached",
        "The traffic or the requests that this ngrok account has in a month are used up.",
        "Wait for the next month or change the plan at https://dashboard.ngrok.com/billing.",
        SELDOM,
    ),
    _Meaning(
        frozenset({702, 717, 734}),
        "ngrok_too_fast",
        "More requests came in a minute than this ngrok account may have.",
        "It opens again by itself; follow progress by one stream instead of asking again and again.",
        60.0,
    ),
    _Meaning(
        frozenset({102, 103}),
        "ngrok_account_closed",
        "ngrok has suspended this account.",
        "See https://dashboard.ngrok.com.",
        SELDOM,
    ),
    _Meaning(
        frozenset({120, 121}),
        "ngrok_outdated",
        "ngrok does not take this version of its program any more.",
        "Remove the file `tunnel/ngrok` of the data folder; the newest one is fetched. Or see to MASUKA_NGROK_PATH.",
        SELDOM,
    ),
)


def code_in(text: str) -> str | None:
    """`ERR_NGROK_...`, if ngrok named one."""
    found = _CODE.search(text)
    return found[0] if found else None


def refusal(ngrok_code: str) -> TunnelError:
    number = int(ngrok_code.rpartition("_")[2])
    for known in _MEANINGS:
        if number in known.numbers:
            return TunnelError(
                f"{known.detail} ({ngrok_code})",
                pause_seconds=known.pause_seconds,
                code=known.code,
                hint=known.hint,
            )
    where = f"https://ngrok.com/docs/errors/{ngrok_code.lower()}"
    return TunnelError(f"ngrok refuses: {ngrok_code}.", pause_seconds=LATER, code="ngrok_refused", hint=f"See {where}.")
