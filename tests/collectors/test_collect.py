"""Collecting: resumes, same bytes for any workers and order, accounts for everything, touches nothing foreign."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from fake_cell import CELL_ID

from shopfloor.collectors import sources as policies
from shopfloor.collectors.collect import PURPOSE_SEEDS, CollectConfig, collect, read_receipts
from shopfloor.collectors.evaluate import evaluate
from shopfloor.collectors.executors import LocalExecutor, SerialExecutor
from shopfloor.collectors.recorded.replay import render_episode, replay
from shopfloor.collectors.sources import policy_kinds, policy_ref, resolve_policy
from shopfloor.core import (
    DiskError,
    InvalidInputError,
    MissingDependencyError,
    PolicyRef,
    ShopfloorError,
    UnknownNameError,
)
from shopfloor.datasets.reader import Dataset
from shopfloor.datasets.tools.edit import delete, purge, restore

pytestmark = pytest.mark.usefixtures("plugin")

POLICY = PolicyRef("fake", CELL_ID, {"speed": 0.8})
BACKWARDS = PolicyRef("fake", CELL_ID, {"sign": -1.0, "name": "backwards"})
EXPERT = PolicyRef("fake", CELL_ID, {"name": "expert", "expert": True})


@pytest.fixture
def two(plugin):
    """Two workers that know the plugin."""
    with LocalExecutor(2) as executor:
        yield executor


def files(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "episodes").iterdir())}


def config(out, **options):
    return CollectConfig.of(
        **{
            "cell": "FakeReach",
            "policy": POLICY,
            "episodes": 6,
            "out": out,
            "codec": "gzip",
            **options,
        }
    )


def test_the_same_bytes_for_one_and_two_workers_and_any_order(tmp_path, two):
    options = {
        "policy": BACKWARDS,
        "teacher": EXPERT,
        "intervene": "expert",
        "noise": 0.2,
        "cameras": ("front",),
    }
    collect(config(tmp_path / "one", **options))
    collect(config(tmp_path / "two", **options), executor=two)
    for seed in (
        3,
        0,
        5,
        1,
        4,
        2,
    ):  # any order, one at a time: index is counted from the first seed
        collect(config(tmp_path / f"s{seed}", **options, seed=seed, episodes=1))
    one = files(tmp_path / "one")
    assert len(one) == 6
    assert one == files(tmp_path / "two")
    for seed, (name, data) in enumerate(one.items()):
        single = files(tmp_path / f"s{seed}")
        assert single == {name.replace(f"ep-{seed:08d}", "ep-00000000"): data}


def test_the_result_tells_all(tmp_path, two):
    seen = []
    result = collect(
        config(tmp_path / "d", policy=BACKWARDS, episodes=4), executor=two, on_receipt=seen.append
    )
    assert [receipt.index for receipt in result.receipts] == [0, 1, 2, 3]
    assert [receipt.seed for receipt in result.receipts] == [0, 1, 2, 3]
    assert {receipt.reason for receipt in result.receipts} == {"timeout"}
    assert (result.resumed, result.infrastructure, result.successes, result.exit_code) == (
        0,
        0,
        0,
        0,
    )
    assert sorted(seen, key=lambda receipt: receipt.index) == list(result.receipts)
    assert sorted(read_receipts(tmp_path / "d"), key=lambda receipt: receipt.index) == list(
        result.receipts
    )
    dataset = Dataset(tmp_path / "d")
    for receipt, record in zip(result.receipts, dataset.records, strict=True):
        assert (receipt.path, receipt.sha256, receipt.bytes) == (
            record.file,
            record.sha256,
            record.bytes,
        )
        assert (receipt.episode_id, receipt.steps) == (record.episode_id, record.steps)
        assert receipt.cpu_seconds > 0
    assert dataset.verify() == []
    run = json.loads((tmp_path / "d" / "run.json").read_text())["runs"][0]
    assert (run["status"], run["workers"], run["config"]["episodes"]) == ("finished", 2, 4)
    assert run["versions"]["numpy"] == np.__version__
    assert len(list((tmp_path / "d" / "manifests").iterdir())) == 1


def test_resuming_runs_only_what_is_missing_and_gives_the_same(tmp_path):
    whole = collect(config(tmp_path / "whole"))
    collect(config(tmp_path / "d", episodes=4))
    (tmp_path / "d" / "episodes" / sorted(files(tmp_path / "d"))[1]).unlink()
    for manifest in (tmp_path / "d" / "manifests").iterdir():
        manifest.unlink()
    ran = []
    again = collect(config(tmp_path / "d"), on_receipt=ran.append)
    assert [receipt.index for receipt in ran] == [1, 4, 5]
    assert again.resumed == 3
    assert files(tmp_path / "d") == files(tmp_path / "whole")
    assert [(r.sha256, r.outcome, r.steps) for r in again.receipts] == [
        (r.sha256, r.outcome, r.steps) for r in whole.receipts
    ]
    assert all(receipt.cpu_seconds > 0 for receipt in again.receipts)  # known from receipts.jsonl
    third = collect(config(tmp_path / "d"), on_receipt=ran.append)
    assert (third.resumed, len(ran)) == (6, 3)


def test_several_policies_share_a_dataset(tmp_path):
    collect(config(tmp_path / "d", episodes=2))
    collect(config(tmp_path / "d", policy=BACKWARDS, teacher=EXPERT, intervene="label", episodes=2))
    dataset = Dataset(tmp_path / "d")
    assert [record.index for record in dataset.records] == [0, 0, 1, 1]
    assert len({record.policy_digest for record in dataset.records}) == 2


def test_a_line_cut_short_by_a_kill_harms_no_receipt(tmp_path):
    collect(config(tmp_path / "d", episodes=2))
    with (tmp_path / "d" / "receipts.jsonl").open("a") as file:
        file.write('{"episode_id": "0')
    collect(config(tmp_path / "d", episodes=3))
    assert [receipt.index for receipt in read_receipts(tmp_path / "d")] == [0, 1, 2]


@pytest.mark.parametrize("what", ["file", "foreign", "episodes"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, what):
    out = tmp_path / "out"
    if what == "file":
        out.write_text("x")
    else:
        out.mkdir()
        (out / "thesis.tex" if what == "foreign" else out / "manifests").write_text("x")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(InvalidInputError, match="out"):
        collect(config(out))
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_dataset_of_other_features_is_refused(tmp_path):
    collect(config(tmp_path / "d", episodes=1))
    with pytest.raises(InvalidInputError):
        collect(config(tmp_path / "d", episodes=1, cameras=("front",)))
    assert len(Dataset(tmp_path / "d")) == 1


def test_a_damaged_episode_is_named_and_not_replaced(tmp_path):
    collect(config(tmp_path / "d", episodes=2))
    path = next(iter(sorted((tmp_path / "d" / "episodes").iterdir())))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShopfloorError, match=path.name):
        collect(config(tmp_path / "d", episodes=3))


@pytest.mark.parametrize(
    "options",
    [
        {"episodes": 0},
        {"noise": -0.1},
        {"noise": float("nan")},
        {"purpose": "gate"},
        {"purpose": "report", "seed": 899_999},
        {"seed": 599_995},
        {"seed": -1, "purpose": "other"},
        {"teacher": EXPERT},
        {"purpose": "fun"},
        {"intervene": "human"},
        {"codec": "zip"},
        {"image_size": (0, 96)},
        {"cell": "FakeReech"},
        {"cameras": ("lidar",)},
        {"cameras": ("front", "front")},
        {"policy": "expret"},
        {"policy": "runs/none"},
        {"policy": PolicyRef("fake", CELL_ID, {"sped": 1})},
        {"policy": PolicyRef("fake", CELL_ID, {"keys": ["lidar"]})},
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(tmp_path, options):
    with pytest.raises((InvalidInputError, UnknownNameError)):
        collect(config(tmp_path / "d", **options))
    assert not (tmp_path / "d").exists()


def test_seed_ranges():
    for purpose, (low, high) in PURPOSE_SEEDS.items():
        config("x", purpose=purpose, seed=low)
        config("x", purpose=purpose, seed=high - 6)
    config("x", purpose="other", seed=950_000)


def test_options_may_be_given_as_keywords(tmp_path):
    result = collect(cell=CELL_ID, policy=POLICY, episodes=1, out=str(tmp_path / "d"))
    assert result.cell == CELL_ID
    with pytest.raises(InvalidInputError, match="not both"):
        collect(config(tmp_path / "d"), episodes=1)


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"), [("crash", "env_crash"), ("nan", "nonfinite_obs"), ("odd", "env_crash")]
)
def test_a_fault_of_the_cell_is_counted_apart(tmp_path, fault, reason):
    result = collect(config(tmp_path / "d", variation=fault, episodes=2, policy=BACKWARDS))
    assert [(r.outcome, r.reason, r.attempt) for r in result.receipts] == [
        ("infrastructure", reason, 3)
    ] * 2
    assert (result.infrastructure, result.exit_code) == (2, 3)
    assert len(Dataset(tmp_path / "d")) == 0
    assert all("seed" in receipt.message for receipt in result.receipts)


def test_a_worker_killed_once_loses_nothing(tmp_path, two):
    result = collect(
        config(tmp_path / "d", variation="kill_once", policy=BACKWARDS, episodes=4), executor=two
    )
    assert [(r.outcome, r.attempt) for r in result.receipts] == [("failure", 2)] * 4
    assert Dataset(tmp_path / "d").verify() == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("kill", "env_crash"), pytest.param("hang", "env_hang", marks=pytest.mark.slow)],
)
def test_a_cell_that_always_kills_or_hangs_its_worker_is_quarantined(
    tmp_path, two, skip_hangs, fault, reason
):
    skip_hangs(two)
    options = {"variation": fault, "policy": BACKWARDS, "episodes": 1}
    result = collect(config(tmp_path / fault, **options), executor=two)
    assert [(r.outcome, r.reason, r.attempt) for r in result.receipts] == [
        ("infrastructure", reason, 3)
    ]


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    import errno

    from shopfloor.datasets.writer import EpisodeWriter

    write, count = EpisodeWriter.write, [0]

    def full(self, episode, index):
        count[0] += 1
        if count[0] > 3:
            raise DiskError(os.strerror(errno.ENOSPC))
        return write(self, episode, index)

    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeWriter, "write", full)
        with pytest.raises(DiskError) as error:
            collect(config(tmp_path / "d"), on_receipt=seen.append)
    assert error.value.exit_code == 3
    assert count == [4]
    dataset = Dataset(tmp_path / "d")
    assert [record.sha256 for record in dataset.records] == [receipt.sha256 for receipt in seen]
    assert dataset.verify() == []
    assert json.loads((tmp_path / "d" / "run.json").read_text())["runs"][-1]["status"] == "failed"
    assert collect(config(tmp_path / "d")).resumed == 3


def test_a_policy_that_changed_is_refused(tmp_path, monkeypatch):
    from shopfloor.collectors import jobs

    told = jobs.info_to_json
    monkeypatch.setattr(jobs, "info_to_json", lambda info: {**told(info), "digest": "old"})
    with pytest.raises(InvalidInputError, match="changed meanwhile"):
        collect(config(tmp_path / "d"))


MANY = 5000  # episodes: far more than are run before a signal
DRIVER = """
    import sys
    from shopfloor.collectors.collect import collect
    from shopfloor.collectors.executors import LocalExecutor, SerialExecutor
    from shopfloor.core import PolicyRef, CancelledError
    # Time for running episodes to end by themselves, however busy the machine is.
    executor = LocalExecutor(2, grace_s=600.0) if sys.argv[2] == "2" else SerialExecutor()
    try:
        with executor:
            collect(cell="FakeReach", policy=PolicyRef("fake", "{cell}", {{"sign": -1.0}}), episodes={episodes},
                    out=sys.argv[1], executor=executor, variation="slow",
                    on_receipt=lambda receipt: print(receipt.path, flush=True))
    except CancelledError as error:
        sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_soon_and_the_run_can_go_on(
    tmp_path, child_environment, plugin, workers, signum
):
    environment = {
        **child_environment,
        "PYTHONPATH": f"{plugin}{os.pathsep}{child_environment['PYTHONPATH']}",
    }
    code = textwrap.dedent(DRIVER).format(cell=CELL_ID, episodes=MANY)
    out = tmp_path / "d"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out), str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        reported = [process.stdout.readline().strip() for _ in range(3)]
        os.killpg(process.pid, signum)
        reported += process.stdout.read().split()
        assert process.wait(timeout=600) == 128 + signum
    assert len(reported) < MANY / 10
    dataset = Dataset(out)
    assert dataset.verify() == []
    assert {record.file for record in dataset.records} >= set(reported)
    assert not [name for name in files(out) if not name.endswith(".h5")]
    assert json.loads((out / "run.json").read_text())["runs"][-1]["status"] == "cancelled"
    assert len(list((out / "manifests").iterdir())) == 1


def test_a_limit_of_the_file_system_reaches_the_user_as_a_disk_error(
    tmp_path, child_environment, plugin
):
    environment = {
        **child_environment,
        "PYTHONPATH": f"{plugin}{os.pathsep}{child_environment['PYTHONPATH']}",
    }
    code = """
        import resource, sys
        from shopfloor.collectors.collect import collect
        from shopfloor.core import DiskError, PolicyRef
        options = dict(cell="FakeReach", policy=PolicyRef("fake", "CELL", {}), out=sys.argv[1], workers=2, codec="none")
        collect(episodes=4, **options)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            collect(episodes=8, **options)
        except DiskError as error:
            print(error)
            sys.exit(error.exit_code)
    """
    code = textwrap.dedent(code).replace("CELL", CELL_ID)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 3, done.stderr
    assert "Everything reported as saved is whole" in done.stdout
    dataset = Dataset(tmp_path / "d")
    assert (len(dataset), dataset.verify()) == (4, [])


# -- policies, evaluation, replay ------------------------------------------------------------------


def test_policy_references():
    assert {"expert", "random", "checkpoint", "fake"} <= set(policy_kinds())
    assert policy_ref("expert", CELL_ID) == PolicyRef("expert", CELL_ID)
    assert policy_ref(POLICY, CELL_ID) is POLICY
    assert resolve_policy(POLICY) is resolve_policy(PolicyRef.from_json(POLICY.to_json()))
    with pytest.raises(UnknownNameError, match="'expert'"):
        policy_ref("expret", CELL_ID)
    with pytest.raises(UnknownNameError, match="Known"):
        resolve_policy(PolicyRef("nonsense", CELL_ID))
    with pytest.raises(InvalidInputError, match="No checkpoint folder"):
        policy_ref("runs/none", CELL_ID)


def test_another_packages_policy_that_cannot_be_loaded_is_named(monkeypatch):
    gone = importlib.metadata.EntryPoint("gone", "no_such_module:make", "shopfloor.policies")
    monkeypatch.setattr(policies, "_entry_points", lambda: [gone])
    with pytest.raises(
        MissingDependencyError, match=r"'gone' .* no_such_module:make, which cannot be loaded"
    ):
        resolve_policy(PolicyRef("gone", CELL_ID))


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("shopfloor.policies")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[policies\]'"):
        resolve_policy(PolicyRef("checkpoint", CELL_ID, {"path": "x"}))


def test_pictures_have_the_size_the_policy_expects(tmp_path):
    sized = PolicyRef("fake", CELL_ID, {"keys": ["state", "wrist"], "image_size": [20, 30]})
    collect(config(tmp_path / "d", policy=sized, cameras=("wrist",), episodes=1))
    assert Dataset(tmp_path / "d").read(0).observations["wrist"].shape[1:] == (20, 30, 3)
    with pytest.raises(InvalidInputError, match="expects pictures of"):
        collect(config(tmp_path / "e", policy=sized, image_size=(96, 96)))


def test_an_episode_is_known_by_its_spec_not_by_its_index(tmp_path):
    collect(config(tmp_path / "d", episodes=4))
    again = collect(config(tmp_path / "d", seed=2, episodes=2))
    assert (again.resumed, [receipt.index for receipt in again.receipts]) == (2, [0, 1])
    assert [receipt.path[:20] for receipt in again.receipts] == [
        "episodes/ep-00000002",
        "episodes/ep-00000003",
    ]


def test_a_folder_is_a_checkpoint(tmp_path):
    assert policy_ref(str(tmp_path), CELL_ID) == PolicyRef(
        "checkpoint", CELL_ID, {"path": str(tmp_path)}
    )


def test_evaluation_counts(tmp_path, two):
    good = evaluate(
        POLICY, CELL_ID, 6, seed=800_000, purpose="report", out=tmp_path / "e", executor=two
    )
    assert (good.episodes, good.successes, good.success) == (6, 6, 1.0)
    assert good.per_seed == (True,) * 6
    assert good.interval == pytest.approx((0.6097, 1.0), abs=1e-4)
    assert good.outcomes == {"success": 6}
    assert good.cpu_seconds > 0
    again = evaluate(POLICY, CELL_ID, 6, seed=800_000, purpose="report", out=tmp_path / "e")
    assert again.resumed == 6
    assert again.to_json() == good.to_json()
    bad = evaluate(BACKWARDS, "FakeReach", 3, seed=0)
    assert (bad.successes, bad.outcomes) == (0, {"timeout": 3})
    summary = bad.to_json()
    assert summary["seeds"] == {"first": 0, "count": 3}
    assert json.loads(json.dumps(summary)) == summary


def test_infrastructure_is_not_in_the_denominator():
    broken = evaluate(BACKWARDS, CELL_ID, 2, variation="crash")
    assert (broken.episodes, broken.success, broken.interval) == (0, 0.0, (0.0, 1.0))
    assert (broken.per_seed, broken.exit_code) == ((None, None), 3)


def test_replay_and_rendering(tmp_path):
    collect(config(tmp_path / "d", episodes=1, cameras=("front",), image_size=(10, 16), noise=0.2))
    episode = Dataset(tmp_path / "d").read(0)
    found = replay(episode)
    assert (found.states_equal, found.first_difference, found.success) == (True, -1, True)
    assert np.array_equal(render_episode(episode, "front", (10, 16)), episode.observations["front"])
    assert render_episode(episode, "wrist", (20, 30)).shape == (episode.steps + 1, 20, 30, 3)
    with pytest.raises(UnknownNameError):
        render_episode(episode, "state")


def test_serial_and_local_executors_are_interchangeable(tmp_path):
    with SerialExecutor() as serial:
        assert collect(config(tmp_path / "d", episodes=1), executor=serial).successes == 1


@pytest.mark.parametrize("told", [True, False])
def test_purged_episodes_are_not_made_again(tmp_path, told):
    """Whether or not receipts.jsonl still says what they were."""
    first = collect(config(tmp_path / "d", episodes=4))
    one, other = first.receipts[1].episode_id, first.receipts[3].episode_id
    delete(tmp_path / "d", ids=[one, other])
    purge(tmp_path / "d")
    if not told:
        (tmp_path / "d" / "receipts.jsonl").unlink()
    ran = []
    again = collect(config(tmp_path / "d"), on_receipt=ran.append)
    assert [receipt.index for receipt in ran] == [4, 5]
    assert (
        [receipt.index for receipt in again.receipts] == [0, 1, 2, 3, 4, 5]
        if told
        else [0, 2, 4, 5]
    )
    assert {record.seed for record in Dataset(tmp_path / "d").records} == {0, 2, 4, 5}
    assert Dataset(tmp_path / "d").verify() == []
    restore(tmp_path / "d", ids=[one])  # who wants one back gets it from the next run
    collect(config(tmp_path / "d"), on_receipt=ran.append)
    assert [receipt.index for receipt in ran] == [4, 5, 1]
    assert ran[-1].sha256 == first.receipts[1].sha256
    assert len(Dataset(tmp_path / "d")) == 5
