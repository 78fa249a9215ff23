"""The conformance table in Python: `pytest -k p02` runs its cases of P2 too."""

import conformance
import pytest

CASES = conformance.load("cases")
WRONG = conformance.load("wrong.toml")
OUT_OF_REACH = conformance.out_of_reach()


def by_name(case):
    return case["name"]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_conformance(case):
    for word in case["needs"]:
        if word in OUT_OF_REACH:
            pytest.skip(f"{word}: {OUT_OF_REACH[word]}")
    conformance.run(case)


@pytest.mark.parametrize("case", WRONG, ids=by_name)
def test_wrong_expectations_fail_where_they_stand(case):
    for word in case["needs"]:
        if word in OUT_OF_REACH:
            pytest.skip(f"{word}: {OUT_OF_REACH[word]}")
    with pytest.raises(conformance.Wrong) as wrong:
        conformance.run(case)
    assert wrong.value.step == case["fails_at"]


def test_an_unknown_word_is_an_error_and_never_ignored():
    sound = {"do": "submit", "task": "a", "run": "return"}
    for spoilt in ({"rnu": 1}, {"run": "retrun"}, {"do": "sumbit"}, {"gate": "g"}):
        with pytest.raises((TypeError, ValueError)):
            conformance.run({"pool": {"workers": 1}, "steps": [{**sound, **spoilt}]})


def test_at_least_forty_cases_are_in_reach():
    reached = [case for case in CASES if not OUT_OF_REACH.keys() & set(case["needs"])]
    assert len(reached) >= 40, f"{len(reached)} of {len(CASES)}"
