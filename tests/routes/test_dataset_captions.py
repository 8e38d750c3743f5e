"""Captions over HTTP: read, written one or many, searched, undone."""

from typing import Any

import pytest

from tests.service import NOBODY, Service, assert_problem, png

TEXTS = {"0.png": "a woman in a park", "1.png": "a man", "2.png": "Woman, womanly"}


@pytest.fixture
async def path(service: Service) -> str:
    """Of the captions of a dataset."""
    return await captioned(service)


async def captioned(service: Service) -> str:
    files = {name: png(number) for number, name in enumerate(TEXTS)}
    captions = {name.replace(".png", ".txt"): text.encode() for name, text in TEXTS.items()}
    created = (await service.upload({**files, **captions}, name="me")).json()
    return f"/api/datasets/{created['id']}/captions"


async def read(service: Service, path: str) -> dict[str, Any]:
    response = await service.client.get(path)
    assert response.headers["etag"] == f'"{response.json()["revision"]}"'
    return dict(response.json())


async def texts(service: Service, path: str) -> list[str]:
    return [item["caption"] for item in (await read(service, path))["items"]]


async def test_captions_are_written_one_and_many_and_undone_one_after_the_other(any_service: Service) -> None:
    path = await captioned(any_service)
    first, second, third = (item["image_id"] for item in (await read(any_service, path))["items"])
    many = [{"image_id": first, "caption": " one\n line "}, {"image_id": third, "caption": ""}]
    changed = (await any_service.client.patch(path, json={"captions": many})).json()
    assert [(item["caption"], item["caption_source"]) for item in changed["items"]] == [
        ("one line", "manual"),
        ("", "none"),
    ]
    one = (await any_service.client.put(f"{path}/{second}", json={"caption": "two"})).json()
    assert (one["id"], one["caption"], one["caption_source"]) == (second, "two", "manual")
    assert await texts(any_service, path) == ["one line", "two", ""]

    edits = (await any_service.client.get(f"{path}/edits")).json()["items"]
    assert [(edit["number"], edit["what"], edit["undone_at"]) for edit in edits] == [
        (2, "Wrote 1 caption", None),
        (1, "Wrote 2 captions", None),
    ]
    undone = (await any_service.client.post(f"{path}/undo")).json()
    assert (undone["edit"]["number"], undone["restored"], undone["skipped"]) == (2, [second], [])
    assert await texts(any_service, path) == ["one line", "a man", ""]
    await any_service.client.post(f"{path}/undo")
    assert await texts(any_service, path) == list(TEXTS.values())
    assert_problem(await any_service.client.post(f"{path}/undo"), 409, "nothing_to_undo")


async def test_what_would_be_replaced_is_shown_first(any_service: Service) -> None:
    path = await captioned(any_service)
    wanted = {"find": "woman", "replace": "ohwx woman", "whole_words": True, "match_case": False}
    shown = (await any_service.client.post(f"{path}/replace", json={**wanted, "dry_run": True})).json()
    assert [(match["before"], match["after"], match["count"]) for match in shown["matches"]] == [
        ("a woman in a park", "a ohwx woman in a park", 1),
        ("Woman, womanly", "ohwx woman, womanly", 1),
    ]
    assert await texts(any_service, path) == list(TEXTS.values())
    headers = {"If-Match": f'"{shown["revision"]}"'}
    done = (await any_service.client.post(f"{path}/replace", json=wanted, headers=headers)).json()
    assert done["matches"] == shown["matches"]
    assert await texts(any_service, path) == ["a ohwx woman in a park", "a man", "ohwx woman, womanly"]
    again = await any_service.client.post(f"{path}/replace", json=wanted, headers=headers)
    assert_problem(again, 412, "dataset_changed")
    await any_service.client.post(f"{path}/undo")
    assert await texts(any_service, path) == list(TEXTS.values())


async def test_only_the_images_named_are_searched_and_patterns_mean_nothing(service: Service, path: str) -> None:
    second = (await read(service, path))["items"][1]["image_id"]
    for find, replace, expected in (("a", r"\g<0>", r"\g<0> m\g<0>n"), (".*", "x", r"\g<0> m\g<0>n")):
        body = {"find": find, "replace": replace, "image_ids": [second]}
        assert (await service.client.post(f"{path}/replace", json=body)).status_code == 200
        assert (await texts(service, path))[1] == expected
    assert (await texts(service, path))[0] == TEXTS["0.png"]


async def test_a_change_of_what_was_changed_meanwhile_is_refused(service: Service, path: str) -> None:
    seen = await read(service, path)
    first = seen["items"][0]["image_id"]
    image = await service.client.get(path.replace("/captions", f"/images/{first}"))
    await service.client.put(f"{path}/{first}", json={"caption": "mine"})
    stale = {"If-Match": f'"{seen["revision"]}"'}
    many = {"captions": [{"image_id": first, "caption": "yours"}]}
    assert_problem(await service.client.patch(path, json=many, headers=stale), 412, "dataset_changed")
    assert_problem(await service.client.post(f"{path}/undo", headers=stale), 412, "dataset_changed")
    one = await service.client.put(
        f"{path}/{first}", json={"caption": "yours"}, headers={"If-Match": image.headers["etag"]}
    )
    assert_problem(one, 412, "image_changed")
    assert (await texts(service, path))[0] == "mine"


async def test_one_wrong_id_among_many_changes_nothing(service: Service, path: str) -> None:
    before = await read(service, path)
    first = before["items"][0]["image_id"]
    many = [{"image_id": first, "caption": "x"}, {"image_id": NOBODY, "caption": "y"}]
    assert_problem(await service.client.patch(path, json={"captions": many}), 404, "image_not_found")
    long = {"find": "a", "replace": "x" * 1000, "image_ids": [first]}
    await service.client.put(f"{path}/{first}", json={"caption": "a" * 100})
    assert_problem(await service.client.post(f"{path}/replace", json=long), 422, "caption_too_long")
    for caption in ("\x00", "x" * 16_385, None, 1):
        assert_problem(await service.client.put(f"{path}/{first}", json={"caption": caption}), 422, "validation_failed")
    assert (await read(service, path))["revision"] == before["revision"] + 1
