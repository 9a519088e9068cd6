"""Which rules were asked about a packet, and what they answered.

The functions that the engine asks are made by `natlb.policy`. Here they are made by the same code, and each is wrapped
in one that writes down what it said. So nothing is asked a second time, which would count twice where asking counts
(`src_inc_gpc0`), and what was not asked, because an earlier rule had decided, is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from natlb.config.model import Config
from natlb.config.rule_model import Condition, Sample, Test
from natlb.core import conditions
from natlb.core.conditions import Value
from natlb.core.opening import Opening
from natlb.core.pool import Pool
from natlb.core.service import Service
from natlb.policy import Policy, Rule


@dataclass(slots=True)
class Tested:
    """One test that a condition came to."""

    test: Test
    value: Value | None
    """What the sample was; None is that there was none."""
    holds: bool


@dataclass(slots=True)
class Asked:
    """One rule that was asked."""

    rule: Rule | Condition
    """A bare condition is that of a `force-persist`."""
    holds: bool = False
    tests: list[Tested] = field(default_factory=list)
    keys: list[tuple[Sample, Value | None]] = field(default_factory=list)
    """What was read besides: the keys of stick tables."""


class Witness:
    """What rules were asked since `clear`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def clear(self) -> None:
        """Forget all."""
        self.asked = []

    def make_policy(self, config: Config, services: Mapping[str, Service], pools: Mapping[str, Pool]) -> Policy:
        """Make a policy whose rules are watched."""
        return _Watched(config, services, pools, self)


class _Watched(Policy):
    def __init__(
        self, config: Config, services: Mapping[str, Service], pools: Mapping[str, Pool], witness: Witness
    ) -> None:
        self._witness = witness
        super().__init__(config, services, pools)

    def _rule(self, rule: Rule) -> conditions.Condition:
        return self._watch(rule, super()._rule(rule))

    def _forced(self, condition: Condition) -> conditions.Condition:
        return self._watch(condition, super()._forced(condition))

    def _watch(self, rule: Rule | Condition, made: conditions.Condition) -> conditions.Condition:
        witness = self._witness

        def ask(opening: Opening) -> bool:
            asked = Asked(rule)
            witness.asked.append(asked)
            asked.holds = made(opening)
            return asked.holds

        return ask

    def _test(self, test: Test) -> conditions.Condition:
        made, witness = super()._test(test), self._witness

        def ask(opening: Opening) -> bool:
            holds = made(opening)
            if witness.asked and witness.asked[-1].keys:
                # What the test has read last is what it was about.
                _, value = witness.asked[-1].keys.pop()
                witness.asked[-1].tests.append(Tested(test, value, holds))
            return holds

        return ask

    def _sample(self, sample: Sample) -> conditions.Sample:
        made, witness = super()._sample(sample), self._witness

        def read(opening: Opening) -> Value | None:
            value = made(opening)
            if witness.asked:
                witness.asked[-1].keys.append((sample, value))
            return value

        return read
