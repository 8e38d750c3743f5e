"""Where each picture stands on a contact sheet, and what is written beside it."""

from itertools import product

from api.domain.comparison import LARGEST_SIDE, Picture, arrange


def test_what_differs_in_all_ways_has_loras_across_and_all_else_down() -> None:
    pictures = [Picture(prompt, seed, lora) for lora, prompt, seed in product(["", "me 1"], ["a cat", "a dog"], [1, 2])]
    found = arrange(pictures)
    assert found.column_titles == ["no LoRA", "me 1"]
    assert found.row_titles == ["a cat, seed 1", "a cat, seed 2", "a dog, seed 1", "a dog, seed 2"]
    assert found.cells == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert (found.heading, found.captions) == ("", {})


def test_what_all_have_in_common_is_the_heading() -> None:
    found = arrange([Picture(prompt, seed, "me 0.5") for prompt, seed in product(["a cat", "a dog"], [7, 8, 9])])
    assert found.heading == "me 0.5"
    assert (found.column_titles, found.row_titles) == (["seed 7", "seed 8", "seed 9"], ["a cat", "a dog"])


def test_one_difference_fills_a_square_with_captions() -> None:
    found = arrange([Picture("a cat", seed, "") for seed in range(5)])
    assert found.cells == [[0, 1, 2], [3, 4, None]]
    assert found.captions == {number: f"seed {number}" for number in range(5)}
    assert found.heading == "a cat, no LoRA"
    assert set(found.column_titles + found.row_titles) == {""}


def test_a_picture_that_is_gone_leaves_its_cell_empty() -> None:
    found = arrange([Picture("a", 1, ""), Picture("a", 2, ""), Picture("b", 1, "")])
    assert found.cells == [[0, 1], [2, None]]


def test_long_titles_are_cut_and_long_words_broken() -> None:
    found = arrange([Picture("一" * 5000, seed, "") for seed in (1, 2)])
    words = found.heading.split()
    assert len(found.heading) < 200
    assert max(len(word.rstrip(",")) for word in words) == 20


def test_the_sheet_does_not_grow_beyond_measure() -> None:
    many = arrange([Picture(str(number), seed, "") for number in range(250) for seed in (1, 2)])
    assert many.cell_side(256) * 250 < LARGEST_SIDE
    assert arrange([Picture("a", 1, "")]).cell_side(256) == 256
