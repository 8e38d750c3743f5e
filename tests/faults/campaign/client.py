"""A good client: it asks until it is answered, always with the same key, and writes down what it was told."""

import asyncio
import random
from typing import Any

import httpx

from tests.faults.campaign.ledger import Ledger

PAUSE_SECONDS = 0.25
TIMEOUT = httpx.Timeout(10, read=25)
CUT_SHARE = 0.3
LONGEST_CUT_SECONDS = 0.06
"""An answer takes some 20 to 50 ms: the cuts come before, while and after the request is carried out."""


class Client:
    """Outlives every interruption of the API."""

    def __init__(self, url: str, ledger: Ledger, chance: random.Random) -> None:
        self.ledger = ledger
        self._chance = chance
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> httpx.Response:
        return await self._insist("GET", path)

    async def post(self, key: str, path: str, **content: Any) -> httpx.Response:
        """The first answer that is none of the service's own troubles, under this Idempotency-Key."""
        headers = {"Idempotency-Key": key}
        if self._chance.random() < CUT_SHARE:
            await self._cut_off("POST", path, headers=headers, **content)
        return await self._insist("POST", path, headers=headers, **content)

    async def _cut_off(self, method: str, path: str, **options: Any) -> None:
        """Ask, and hang up before, while or after it is done."""
        try:
            async with asyncio.timeout(self._chance.uniform(0, LONGEST_CUT_SECONDS)):
                await self._http.request(method, path, **options)
        except (TimeoutError, httpx.TransportError):
            return

    async def _insist(self, method: str, path: str, **options: Any) -> httpx.Response:
        while True:
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                return response
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                self.ledger.note("server_error", path=path, status=response.status_code, body=response.text[:500])
            await asyncio.sleep(PAUSE_SECONDS)
