"""Signals that come while an old natlb stands still are heard: by itself, by its keeper, or by its successor."""

import json
import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, json, os, signal, sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from natlb.yielding import Tenure, Yielding

stays, failure = sys.argv[1] == "stays", sys.argv[2]
told = {"asked": 0, "asked before": 0, "heir": None, "stopped": False}

@asynccontextmanager
async def undisturbed():
    yield

def nothing(*_, **__):
    pass

def request():
    told["asked"] += 1

def yield_to(rules):
    told["asked before"] = told["asked"]
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        os.kill(os.getpid(), signum)
    return failure

def stop():
    told["stopped"] = True

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGUSR2, request)
    lock, tenure = SimpleNamespace(undisturbed=undisturbed), Tenure()
    old = Yielding(
        None, tenure, SimpleNamespace(keeps=lambda _: stays, hand_on=lambda pid: told.update(heir=pid)),
        SimpleNamespace(hand_over=nothing, take_back=nothing), SimpleNamespace(fingerprint="", again=nothing),
        guard=lock, roster=lock, offloader=lock,
        estate=dict, catch_up=nothing, stand_aside=nothing, answering=str, start=nothing, stop=nothing,
    )
    os.kill(os.getpid(), signal.SIGUSR2)  # the loop has not heard of it yet
    await old._yield_to(SimpleNamespace(pid=4711, yield_to=yield_to, bid_farewell=nothing))
    for _ in range(10):
        await asyncio.sleep(0)
    told["noted"] = sorted(tenure.noted or [])

asyncio.run(main())
print(json.dumps(told))
"""


@pytest.mark.parametrize("failure", ["", "it fails"], ids=["handed over", "not handed over"])
@pytest.mark.parametrize("stays", [True, False], ids=["becomes a keeper", "ends"])
def test_signals_that_come_while_it_stands_still_are_heard(stays: bool, failure: str) -> None:
    argv = [sys.executable, "-c", _PROGRAM, "stays" if stays else "ends", failure]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["asked before"] == 1, "what had come already is heard before anything changes hands"
    keeps = stays and not failure
    assert told["noted"] == (sorted([signal.SIGTERM, signal.SIGUSR2]) if keeps else [])
    assert (told["asked"], told["stopped"]) == ((1, False) if keeps else (2, True))
    assert told["heir"] == (None if failure else 4711)
