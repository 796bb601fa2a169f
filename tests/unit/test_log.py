import json
import subprocess
import sys


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)


def test_threads_that_log_for_the_first_time_at_once_all_log():
    program = """
from threading import Barrier, Thread
from slipway.log import get_logger

def work(number):
    together.wait()
    get_logger(f"thread-{number}").info("begun")

together = Barrier(16)
threads = [Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    finished = run(program)
    assert finished.stderr == ""
    assert finished.stdout.count("begun") == 16


def test_an_event_is_a_line_of_json_with_its_module_where_that_is_asked_for():
    finished = run(
        "from slipway.log import configure_logging, get_logger\nconfigure_logging('json')\nget_logger('m').info('e', a=1)"
    )
    line = json.loads(finished.stderr)
    assert (line["event"], line["module"], line["a"], line["level"]) == ("e", "m", 1, "info")
