"""The engine against its model once more, but now and then another engine takes over: nobody is to notice."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import precondition, rule

from natlb.core.engine import NatEngine
from natlb.core.states import FINISHED
from natlb.handover.statefile import StateFile
from tests.effort import examples
from tests.unit.core.test_model import NatMachine


class SucceededNatMachine(NatMachine):
    """An engine that is recorded, and has successors."""

    def prepare(self):
        self.kept = ExitStack()
        self.directory = Path(self.kept.enter_context(tempfile.TemporaryDirectory()))
        self.file = self.kept.enter_context(Closed(StateFile.open(self.directory, 1)))
        self.take_over(self.file, self.engine)

    def teardown(self):
        if hasattr(self, "kept"):
            self.kept.close()

    def take_over(self, file, engine):
        self.early = None
        return file.restore(engine, *self.configured(), [], self.now(), _fail)

    def configured(self):
        return list(self.services.values()), {self.pool.name: self.pool}

    def now(self):
        return self.model.now if hasattr(self, "model") else 0.0

    def hand_in(self, sent, in_pieces):
        became = super().hand_in(sent, in_pieces)
        self.file.settle()
        return became

    @rule()
    def some_time_is_found(self):
        list(self.file.refresh())

    @rule()
    def another_reads_what_is_on_record(self):
        """Have the next one prepare itself with what stands there now."""
        self.early = self.file.path.read_bytes()

    @precondition(lambda self: self.flows())
    @rule()
    def another_takes_over(self):
        self.file.close(keep=True, now=self.model.now)
        before = self.engine
        engine = NatEngine(
            before.addresses,
            max_connections=before.admission.max_connections,
            capacity=before.capacity,
            half_open_capacity=before.table.half_open_capacity,
        )
        engine.fragments = before.fragments  # what does not survive is not to be noticed here
        for owner in (*self.services.values(), *self.servers.values(), self.pool):
            owner.live = 0
        self.file = self.kept.enter_context(Closed(StateFile.open(self.directory, 1)))
        if self.early is not None:
            complete = self.file.path.read_bytes()
            self.file.path.write_bytes(self.early)
            self.file.prepare(engine, *self.configured(), self.now(), _fail)
            self.file.path.write_bytes(complete)
        restored = self.take_over(self.file, engine)
        assert (restored.connections, restored.no_place, restored.refused) == (len(before), 0, 0)
        assert not restored.complaint
        assert not restored.retired
        assert restored.was_complete
        self.engine = engine
        self.live = {each for each in engine.connections() if each.state not in FINISHED}


def _fail(text):
    raise AssertionError(text)


class Closed:
    """Closes a file when the test is over, if that is not done by then."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self.file

    def __exit__(self, *_):
        self.file.close(keep=False)


TestSucceededNat = SucceededNatMachine.TestCase
TestSucceededNat.settings = settings(max_examples=examples(60), stateful_step_count=50, deadline=None)
