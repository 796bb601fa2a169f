"""Ends that come as signals, in processes of their own."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import signal, sys, time
from slipway.launch.lifeline import deleted_on_signal

def delete():
    print("deleted", flush=True)
    time.sleep(0.5)
    print("answered", flush=True)

def leave(number, frame):
    print("left", flush=True)
    sys.exit(7)

signal.signal(signal.SIGTERM, leave)
with deleted_on_signal(delete):
    print("ready", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_deletes_before_anything_else_and_a_second_one_does_not_break_it_off(times):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    written, _ = process.communicate(timeout=20)
    assert written.split() == ["deleted", "answered", "left"]
    assert process.returncode == 7


def test_when_the_training_has_ended_signals_do_what_they_did_before():
    program = PROGRAM.replace('    print("ready", flush=True)\n    time.sleep(30)\n', "    pass\n") + (
        'print("ready", flush=True)\ntime.sleep(30)\n'
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    written, _ = process.communicate(timeout=20)
    assert written.split() == ["left"]
