import pytest

from slipway.serving.wire.wording import show


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1e39, "1e+39"),
        ("it's", '"it\'s"'),
        ([None, [False, "a"], {}], "[null, [false, 'a'], {}]"),
        ({"a": None, "b": [1.5]}, "{'a': null, 'b': [1.5]}"),
        ([0] * 61, "list of 61"),
        ([[0] * 61], "[list of 61]"),
        ({str(key): 0 for key in range(61)}, "object of 61"),
        ("a" * 61, "'" + "a" * 59 + "..."),
        ([["a" * 40] * 50] * 50, "[['" + "a" * 40 + "', '" + "a" * 13 + "..."),
    ],
)
def test_a_value_is_shown_in_the_words_of_json_and_not_all_of_a_large_one(value, shown):
    assert show(value) == shown


def test_of_a_large_value_only_the_beginning_is_looked_at():
    class Unseen(str):
        def __repr__(self) -> str:
            raise AssertionError("it is looked at")

    nested: object = [Unseen()]
    for _ in range(5000):
        nested = [nested]
    assert show([["a"] * 30, Unseen()]) == str([["a"] * 30])[:60] + "..."
    assert show(nested) == "[" * 60 + "..."
