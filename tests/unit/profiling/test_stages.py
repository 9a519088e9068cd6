"""Marks in the source, and what they hold for."""

import textwrap

from natlb.profiling.stages import Stage, mark_of, stages_of

P, L, S, O = Stage.PARSE, Stage.LOOKUP, Stage.STATE, Stage.OPEN  # noqa: E741 - as the lines below are written


def stages(source: str) -> list[Stage | None]:
    lines = textwrap.dedent(source).strip("\n").splitlines()
    found = stages_of(lines)
    return [found.get(number) for number in range(1, len(lines) + 1)]


def test_a_mark_holds_up_to_the_next_one_which_belongs_to_what_it_ends() -> None:
    assert stages(
        """
        def f():
            before()
            # -- parse
            one()

            two()
            # -- lookup
            three()
        """
    ) == [None, None, None, P, None, P, P, L]


def test_a_mark_holds_within_its_block_alone() -> None:
    assert stages(
        """
        def f():
            # -- lookup
            if not one():
                # -- open
                two(
                    three,
                )
            elif four():
                five()
                # -- state
                six()
            seven()
        """
    ) == [None, None, L, L, O, O, O, L, L, L, S, L]


def test_another_function_begins_without_a_mark() -> None:
    assert stages(
        """
        class C:
            def f(self):
                # -- parse
                one()

            def g(self):
                two()
        """
    ) == [None, None, None, P, None, None, None]


def test_other_comments_are_comments() -> None:
    for line in (
        "    # -- the loads",
        "    # -- loads",
        "    # parse",
        "    x()  # -- parse",
        "# -- parse",
        "    # --parse",
    ):
        assert mark_of(line) is None, line
    assert all(mark_of(f"    # -- {stage.value}\n") is stage for stage in Stage)


def test_a_mark_belongs_to_what_runs_on_into_it() -> None:
    assert stages(
        """
        def f():
            # -- parse
            if one():
                # -- lookup
                two()
            elif three():
                # -- open
                if four():
                    return six(
                        7,
                    )
                # -- lookup
                eight()
            else:
                return
            # -- state
            nine()
            while ten():
                break
            # -- rewrite
        """
    ) == [None, None, P, P, L, P, P, O, O, O, O, O, L, P, P, L, S, S, S, S]
