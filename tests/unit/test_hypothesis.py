"""How Hypothesis judges examples here."""

from hypothesis import settings


def test_no_example_is_judged_by_its_time():
    """The default of every property test; on a busy machine a deadline fails what is right."""
    assert settings().deadline is None
