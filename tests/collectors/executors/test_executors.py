"""Executors: same results for any number of workers, and nothing a job does can lose another job."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from shopfloor import children, collect, evaluate
from shopfloor.collectors.executors import LocalExecutor, SerialExecutor, engine, make_executor
from shopfloor.collectors.executors import local as executors
from shopfloor.collectors.executors.tries import ATTEMPTS
from shopfloor.collectors.recorded.quality import quality
from shopfloor.collectors.recorded.render import render_dataset
from shopfloor.collectors.recorded.replay import deep_verify, replay_dataset
from shopfloor.core import (
    CancelledError,
    DiskError,
    InfrastructureError,
    InvalidInputError,
    MissingDependencyError,
    UnknownNameError,
)

ALLOWED = ("fault_jobs",)
JOBS = 1000  # of a driver: far more than are run before it is stopped
LONG_S = 600  # ends a real hang
HOWS = ("kill", "exit", "hang", "raise", "infrastructure")


def serial():
    return SerialExecutor(allowed=ALLOWED)


def payloads(count):
    return [{"value": value} for value in range(count)]


def results(executor, function, given, **options):
    return dict(executor.run(f"fault_jobs:{function}", given, **options))


@pytest.mark.core
def test_workers_and_order_do_not_change_results(pool):
    expected = {index: 2 * index for index in range(20)}
    for executor in (serial(), pool):
        assert {
            index: r["value"] for index, r in results(executor, "double", payloads(20)).items()
        } == expected


def test_pool_keeps_its_processes_between_runs_and_uses_all(pool):
    slow = [{"value": value, "sleep": 0.05} for value in range(8)]
    first = {r["pid"] for r in results(pool, "double", slow).values()}
    again = {r["pid"] for r in results(pool, "double", slow).values()}
    assert len(first) == 2
    assert first == again
    assert os.getpid() not in first


@pytest.mark.core
def test_workers_have_one_thread_no_torch_and_leave_ctrl_c_to_the_driver(pool):
    look = results(pool, "look", [{}, {}])[0]
    assert look["threads"] == "1"
    assert look["sigint"]
    assert not look["torch"]
    assert look["descriptors"] < 12  # none of the driver's or the other worker's


def test_payloads_are_drawn_only_when_needed(pool):
    drawn = []

    def endless():
        value = 0
        while True:
            drawn.append(value)
            yield {"value": value}
            value += 1

    running = pool.run("fault_jobs:double", endless())
    for _ in range(5):
        next(running)
    running.close()
    assert len(drawn) <= 5 + pool.workers
    assert results(pool, "double", payloads(2))[1]["value"] == 2  # the pool is fit for another run


@pytest.mark.parametrize("how", HOWS)
def test_a_failed_try_is_repeated_and_other_jobs_are_not_affected(pool, skip_hangs, tmp_path, how):
    skip_hangs(pool)
    given = [
        {
            "marks": str(tmp_path),
            "name": f"job{i}",
            "times": 2 if i == 1 else 0,
            "how": how,
            "attempt": 1,
        }
        for i in range(4)
    ]
    got = results(pool, "fail", given)
    assert [got[i]["tries"] for i in range(4)] == [1, 3, 1, 1]
    assert [got[i]["attempt"] for i in range(4)] == [1, 3, 1, 1]


@pytest.mark.parametrize(
    ("how", "reason"), [("kill", "env_crash"), ("hang", "env_hang"), ("raise", "env_crash")]
)
def test_three_failed_tries_are_quarantined_or_raised(pool, skip_hangs, tmp_path, how, reason):
    skip_hangs(pool)
    given = [{"marks": str(tmp_path), "name": "bad", "times": 9, "how": how}, {**ok(tmp_path)}]
    got = results(pool, "fail", given, keep_going=True)
    assert got[1]["value"] == "ok"
    assert got[0]["quarantined"]
    assert got[0]["reason"] == reason
    assert got[0]["attempts"] == ATTEMPTS == len(list(tmp_path.glob("bad-*")))


def test_without_keep_going_a_job_that_always_fails_ends_the_run(pool, tmp_path):
    given = [{"marks": str(tmp_path), "name": "bad", "times": 9, "how": "kill"}]
    with pytest.raises(InfrastructureError, match="failed 3 times"):
        results(pool, "fail", given)


def ok(tmp_path):
    return {"marks": str(tmp_path), "name": "ok", "times": 0, "how": ""}


@pytest.mark.parametrize("how", ["raise", "infrastructure"])
def test_serial_repeats_and_quarantines_too(tmp_path, how):
    twice = {"marks": str(tmp_path), "name": "twice", "times": 2, "how": how, "attempt": 1}
    always = {"marks": str(tmp_path), "name": "always", "times": 9, "how": how}
    got = results(serial(), "fail", [twice, always, ok(tmp_path)], keep_going=True)
    assert (got[0]["tries"], got[0]["attempt"]) == (3, 3)
    assert got[1]["quarantined"]
    assert got[2]["value"] == "ok"
    with pytest.raises(InfrastructureError):
        results(serial(), "fail", [{**always, "name": "again"}])


@pytest.mark.parametrize(("how", "kind"), [("input", InvalidInputError), ("disk", DiskError)])
def test_user_errors_and_a_full_disk_are_raised_at_once(pool, tmp_path, how, kind):
    for number, executor in enumerate((serial(), pool)):
        given = {"marks": str(tmp_path), "name": f"bad{number}", "times": 9, "how": how}
        with pytest.raises(kind, match=r"the user|full"):
            results(executor, "fail", [given], keep_going=True)
        assert len(list(tmp_path.glob(f"bad{number}-*"))) == 1


def test_a_result_that_is_not_json_is_a_failure(pool):
    assert "quarantined" in results(pool, "garbage", [{}], keep_going=True)[0]


@pytest.mark.core
@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "fault_jobs",
        "shopfloor",
        "shopfloor.core",
        "subprocess:run",
        "fault_jobs_:x",
        "shopfloorx.a:b",
    ],
)
def test_only_the_packages_functions_are_run(name):
    for executor in (SerialExecutor(), serial(), LocalExecutor(1, allowed=ALLOWED)):
        with pytest.raises(InvalidInputError, match="not allowed"):
            list(executor.run(name, [{}]))
        executor.close()


@pytest.mark.core
def test_worker_counts():
    assert isinstance(make_executor(1), SerialExecutor)
    assert make_executor(3).workers == 3
    with pytest.raises(InvalidInputError, match="at least 1"):
        make_executor(0)


@pytest.mark.core
def test_an_address_names_an_engine():
    assert isinstance(make_executor("serial"), SerialExecutor)
    for workers in (1, 4):
        executor = make_executor(f"local:{workers}")
        assert isinstance(executor, LocalExecutor)
        assert executor.workers == workers


@pytest.mark.core
@pytest.mark.parametrize("address", ["local", "local:", "local:0", "local:-1", "local:two"])
def test_local_needs_a_number_of_workers(address):
    with pytest.raises(InvalidInputError, match=f"'{address}'; expected local:W.*'local:4'"):
        make_executor(address)


@pytest.mark.core
def test_what_is_no_engine_is_refused_with_those_there_are():
    with pytest.raises(InvalidInputError, match="'serial:2'; expected 'serial'"):
        make_executor("serial:2")
    for address in ("ray://host:10001", "4", ""):
        with pytest.raises(UnknownNameError) as error:
            make_executor(address)
        assert str(error.value) == (
            f"Unknown engine {address!r}. Known: local, serial. 'serial' runs in this process, "
            "'local:4' in four worker processes."
        )
    with pytest.raises(UnknownNameError, match="Did you mean 'local'"):
        make_executor("locl:4")


class Counting:
    """Somebody else's engine: counts what another runs."""

    def __init__(self, inner):
        self.inner = inner
        self.workers = inner.workers
        self.jobs = 0
        self.closed = False

    def run(self, function, payloads, **options):
        for position, result in self.inner.run(function, payloads, **options):
            self.jobs += 1
            yield position, result

    def close(self):
        self.inner.close()
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


@pytest.fixture
def counted(monkeypatch):
    """Install somebody else's engines; give those that were made of the one that works."""
    made = []

    def make(address, *, allowed=()):
        made.append(Counting(make_executor(address.partition(":")[2], allowed=allowed)))
        return made[-1]

    module = types.ModuleType("acme_engine")
    module.make = make
    monkeypatch.setitem(sys.modules, "acme_engine", module)
    points = [
        EntryPoint("counted", "acme_engine:make", engine.GROUP),
        EntryPoint("broken", "acme_engine:gone", engine.GROUP),
        EntryPoint("serial", "acme_engine:make", engine.GROUP),  # ours go first
    ]
    monkeypatch.setattr(
        engine, "entry_points", lambda group: points if group == engine.GROUP else []
    )
    return made


@pytest.mark.core
def test_other_packages_announce_engines(counted):
    with make_executor("counted:serial", allowed=ALLOWED) as executor:
        assert results(executor, "double", payloads(3))[2]["value"] == 4
    assert (counted[0].jobs, counted[0].closed) == (3, True)
    assert isinstance(make_executor("serial"), SerialExecutor)
    with pytest.raises(UnknownNameError, match="Known: broken, counted, local, serial"):
        make_executor("ray://host:10001")
    with pytest.raises(MissingDependencyError, match=r"acme_engine:gone.*remove that package"):
        make_executor("broken")


def test_whatever_runs_jobs_takes_an_address(counted, tmp_path):
    done = collect(
        cell="PickToTray", policy="expert", episodes=1, out=tmp_path / "d", workers="counted:serial"
    )
    assert done.successes == 1
    assert replay_dataset(tmp_path / "d", workers="counted:local:1").episodes[0].states_equal
    assert deep_verify(tmp_path / "d", workers="counted:serial").replays.episodes[0].states_equal
    assert quality(tmp_path / "d", workers="counted:serial").flagged == []
    rendered = render_dataset(
        tmp_path / "d", tmp_path / "r", ("front",), (16, 16), workers="counted:serial"
    )
    assert rendered.episodes == 1
    assert evaluate("expert", "PickToTray", 1, workers="counted:serial").successes == 1
    assert all(executor.closed and executor.jobs for executor in counted)
    assert len(counted) == 6


def test_two_runs_at_a_time_are_refused(pool):
    running = pool.run("fault_jobs:double", payloads(4))
    next(running)
    with pytest.raises(RuntimeError, match="already running"):
        next(pool.run("fault_jobs:double", payloads(1)))
    running.close()


def test_an_idle_worker_that_dies_is_replaced_without_blaming_a_job(pool, wait_until):
    pids = {r["pid"] for r in results(pool, "double", [{"value": 1, "sleep": 0.1}] * 2).values()}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(worker.process.poll() is not None for worker in pool._pool))
    got = results(pool, "double", [{"value": 1, "attempt": 1}] * 2)
    assert {r["attempt"] for r in got.values()} == {1}
    assert not pids & {r["pid"] for r in got.values()}


@pytest.mark.core
def test_close_ends_the_workers():
    executor = LocalExecutor(2, allowed=ALLOWED)
    pids = {
        r["pid"] for r in results(executor, "double", [{"value": 1, "sleep": 0.1}] * 2).values()
    }
    executor.close()
    executor.close()
    assert not any(alive(pid) for pid in pids)


def test_workers_that_cannot_start_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "path", ["/nonexistent"])
    executor = LocalExecutor(2, allowed=ALLOWED)
    with pytest.raises(InfrastructureError, match=r"cannot start.*exit status 1"):
        results(executor, "double", payloads(3))
    executor.close()


def test_workers_that_hang_while_they_start_are_an_error(monkeypatch):
    monkeypatch.setattr(children, "_BOOT", "import time; time.sleep(3600)")
    monkeypatch.setattr(executors, "START_S", 0.2)
    executor = LocalExecutor(2, allowed=ALLOWED)
    with pytest.raises(InfrastructureError, match=r"no sign of life within 0\.2 s"):
        results(executor, "double", payloads(3))
    executor.close()


def test_the_clock_of_a_job_starts_when_its_worker_is_there(monkeypatch):
    """However long it takes to start: here far longer than a job may take."""
    with LocalExecutor(1, allowed=ALLOWED) as executor:

        class SlowStart:
            passed_s = 0.0

            def monotonic(self):
                if not any(worker.ready for worker in executor._pool):
                    self.passed_s += executors.START_S / 1000
                return self.passed_s

        monkeypatch.setattr(executors, "START_S", 1e9)
        monkeypatch.setattr(executors, "time", SlowStart())
        given = [{"value": 1, "attempt": 1}]
        assert results(executor, "double", given)[0]["attempt"] == 1


# -- the driver's end, signals ---------------------------------------------------------------------

DRIVER = """
    import sys
    from shopfloor.collectors.executors import signals
    from shopfloor.collectors.executors import {executor}
    from shopfloor.core import CancelledError
    print(" ", end="", flush=True)
    with signals.handling(), {make} as executor:
        payloads = [
            {{"value": i, "sleep": {sleep}, "mark": sys.argv[1] + f"/{{i}}"}} for i in range({jobs})
        ]
        try:
            for index, result in executor.run("fault_jobs:double", payloads):
                print(result["pid"], flush=True)
        except CancelledError as error:
            print("cancelled", error.exit_code, flush=True)
            sys.exit(error.exit_code)
"""
LOCAL = {"executor": "LocalExecutor", "make": "LocalExecutor(2, allowed=('fault_jobs',))"}
SERIAL = {"executor": "SerialExecutor", "make": "SerialExecutor(allowed=('fault_jobs',))"}


@pytest.fixture
def driver(child_environment, tmp_path):
    """Give a function that starts a process that runs jobs; job number i leaves a file `i` when it begins."""
    started = []

    def start(parts, sleep):
        code = textwrap.dedent(DRIVER).format(**parts, sleep=sleep, jobs=JOBS)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment,
            start_new_session=True,
            # Under nohup the tests inherit an ignored SIGHUP, which a run rightly leaves ignored.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def workers_of(process, lines):
    pids = set()
    for _ in range(lines):
        pids.add(int(process.stdout.readline()))
    return pids


@pytest.mark.core
def test_the_drivers_death_kills_the_workers(driver, wait_until):
    process = driver(LOCAL, sleep=0.2)
    pids = workers_of(process, 6)
    assert len(pids) == 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("parts", [LOCAL, SERIAL], ids=["local", "serial"])
@pytest.mark.parametrize(
    ("signum", "group"),
    [
        (signal.SIGINT, True),
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),
        (signal.SIGHUP, False),
    ],
)
def test_a_signal_stops_the_run(driver, wait_until, parts, signum, group):
    process = driver(parts, sleep=0.2)
    pids = workers_of(process, 4)
    os.killpg(process.pid, signum) if group else os.kill(process.pid, signum)
    rest = process.stdout.read()
    assert process.wait(LONG_S) == 128 + signum
    assert f"cancelled {128 + signum}" in rest
    assert len(rest.split("\n")) < JOBS / 2
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_a_hanging_job_does_not_hold_up_a_stop(driver, tmp_path, wait_until):
    process = driver(LOCAL, sleep="0.1 if i < 4 else 3600")
    pids = workers_of(process, 4)
    wait_until(lambda: (tmp_path / "4").exists() and (tmp_path / "5").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 143
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_a_second_signal_ends_the_process_at_once(driver, tmp_path, wait_until):
    process = driver(SERIAL, sleep="0.05 if i < 2 else 3600")
    wait_until((tmp_path / "2").exists)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 143
    assert "cancelled" not in process.stdout.read()


@pytest.mark.core
def test_handlers_are_put_back_and_the_flag_is_forgotten():
    from shopfloor.collectors.executors import signals

    before = [signal.getsignal(signum) for signum in signals.HANDLED]
    with signals.handling(), signals.handling():
        os.kill(os.getpid(), signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            time.sleep(0.01)
        assert signals.requested() == signal.SIGTERM
        with pytest.raises(CancelledError) as error:
            signals.check()
        assert error.value.exit_code == 143
    assert signals.requested() is None
    assert [signal.getsignal(signum) for signum in signals.HANDLED] == before
