"""What answers to a download mean."""

import pytest

from api.domain.fetching import Anew, Goes, Later, Verdict, Whole, judge, pause_seconds
from api.errors import JobError

ETAG = '"v1"'


def verdict(status: int, have: int = 0, **headers: str) -> Verdict:
    return judge(status, {name.replace("_", "-"): text for name, text in headers.items()}, have, ETAG, "https://a/b")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (verdict(200, content_length="10", etag='"v2"'), Goes(0, 10, '"v2"')),
        (verdict(200, have=4, content_length="10", etag='"v2"'), Goes(0, 10, '"v2"')),
        (verdict(200), Goes(0, None, None)),
        (verdict(200, content_length="10", etag='W/"v2"'), Goes(0, 10, None)),
        (verdict(206, have=4, content_range="bytes 4-9/10", etag=ETAG), Goes(4, 10, ETAG)),
        (verdict(206, have=4, content_range="bytes 4-9/10"), Goes(4, 10, ETAG)),
        (verdict(206, have=4, content_range="bytes 4-9/10", etag='"v2"'), Anew()),
        (verdict(206, have=4, content_range="bytes 5-9/10"), Anew()),
        (verdict(206, have=4), Anew()),
        (verdict(206, content_range="bytes 0-9/10"), Anew()),
        (verdict(416, have=10, content_range="bytes */10"), Whole()),
        (verdict(416, have=11, content_range="bytes */10"), Anew()),
        (verdict(503), Later("it answers 503")),
        (verdict(429), Later("it answers 429")),
    ],
)
def test_an_answer_is_gone_on_with_only_where_it_fits(found: Verdict, expected: Verdict) -> None:
    assert found == expected


@pytest.mark.parametrize("status", [204, 304, 400, 401, 404, 416])
def test_what_will_not_become_better_is_refused(status: int) -> None:
    with pytest.raises(JobError) as caught:
        verdict(status)
    assert (caught.value.code, caught.value.value) == ("download_refused", status)


def test_a_compressed_file_is_refused_for_its_ranges_mean_something_else() -> None:
    with pytest.raises(JobError, match="compressed"):
        verdict(200, content_encoding="gzip")


def test_pauses_grow_up_to_a_limit() -> None:
    assert [pause_seconds(2.0, failures) for failures in range(1, 7)] == [2, 4, 8, 16, 30, 30]
