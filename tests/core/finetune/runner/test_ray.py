"""Real Ray clusters of several nodes on this machine: the same results as without, whatever happens to a node.

Ray notices a lost node by missed heartbeats: the clusters here allow for a machine that is busy.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.cancel import Canceled
from semfreeze_core.finetune.runner import ray_cluster
from semfreeze_core.finetune.runner.parcel import PackedModel, pack_model
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.runs.reports import read_live
from tests.core.finetune.arms_here import arms_in_this_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (semfreeze[ray])"),
    # Ray opens files and sockets that it leaves to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PATIENT = {"health_check_timeout_ms": 20_000, "health_check_failure_threshold": 10, "health_check_period_ms": 1_000}
VARIABLES = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}  # Ray's tasks give way to all else, by default
SMALL = {"object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def reference(request_for, workspace):
    """The report that this machine's processes give."""
    return validate(request_for(), workspace / "here")


@contextmanager
def cluster_of(*nodes):
    """A cluster whose head takes no arms, with such nodes."""
    os.environ |= VARIABLES
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": PATIENT, **SMALL})
    try:
        for node in nodes:
            cluster.add_node(**node, **SMALL)
        yield cluster
    finally:
        cluster.shutdown()
        for name in VARIABLES:
            del os.environ[name]


@pytest.fixture
def two_nodes():
    with cluster_of({"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        yield cluster


def runner_on(cluster, **how):
    from semfreeze_core.finetune.runner.ray_runner import ray_runner

    return ray_runner(cluster.address, "auto", **how)


def require_equal(report, reference):
    assert [(run.arm, run.seed, run.status) for run in report.runs] == [
        (run.arm, run.seed, run.status) for run in reference.runs
    ]
    assert report.baseline.item_losses == pytest.approx(reference.baseline.item_losses, abs=1e-6)
    for run, other in zip(report.runs, reference.runs, strict=True):
        assert run.train_losses == pytest.approx(other.train_losses, abs=1e-6)
        assert [(p.step, p.marks, p.flop) for p in run.points] == [(p.step, p.marks, p.flop) for p in other.points]
        for point, same in zip(run.points, other.points, strict=True):
            assert point.item_losses == pytest.approx(same.item_losses, abs=1e-6)
            assert point.answers == same.answers
    assert report.verdicts == reference.verdicts


def arm_processes():
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "semfreeze_core.finetune.arm.process" in command and process.status() != psutil.STATUS_ZOMBIE:
            processes.append(process)
    return processes


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Watched:
    """Progress that can be waited for."""

    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(event)

    def steps(self):
        return [event.done for event in self.events if event.unit == "steps"]


def test_arms_on_two_nodes_give_the_report_of_this_machines_processes(two_nodes, request_for, reference, tmp_path):
    progress = Watched()
    with runner_on(two_nodes) as runner:
        assert runner.at_once() == 2
        report = validate(request_for(), tmp_path / "ray", runner=runner, progress=progress)
    require_equal(report, reference)
    assert {event.lane for event in progress.events if event.unit == "steps"} == {"full-seed0", "planned-seed0"}
    assert read_live(tmp_path / "ray") == []
    import ray

    assert not ray.is_initialized()
    assert all(node.remaining_processes_alive() for node in two_nodes.list_all_nodes()), "the cluster is the person's"


def node_of_the_arm(cluster):
    """The node on which the only arm trains: its process was started by a worker, and that by the node's raylet."""
    arms = [{parent.pid for parent in process.parents()} for process in arm_processes()]
    for node in cluster.list_all_nodes():
        raylets = {info.process.pid for info in node.all_processes["raylet"]}
        if any(raylets & parents for parents in arms):
            return node
    return pytest.fail("no node has it")


def test_an_arm_whose_node_is_killed_resumes_from_its_checkpoint_to_the_same_result(two_nodes, request_for, tmp_path):
    request = request_for(steps=400, arms=("full",), match="steps")
    with arms_in_this_process():
        reference = validate(request, tmp_path / "here")
    progress = Watched()
    with runner_on(two_nodes, save_seconds=1) as runner:
        reports = []
        arm = threading.Thread(
            target=lambda: reports.append(validate(request, tmp_path / "ray", runner=runner, progress=progress))
        )
        arm.start()
        import ray

        wait_for(lambda: runner._mailbox is not None)
        # The second job is the arm's; the first was the model before training.
        wait_for(lambda: progress.steps() and ray.get(runner._mailbox.manifest.remote("1")))
        before = progress.steps()[-1]
        two_nodes.remove_node(node_of_the_arm(two_nodes), allow_graceful=False)
        arm.join(300)
    assert not arm.is_alive()
    require_equal(reports[0], reference)
    messages = [event.message for event in progress.events if event.message]
    assert any("its machine was lost. It resumes on" in m and "from its last checkpoint" in m for m in messages)
    since = next(i for i, event in enumerate(progress.events) if "was lost" in event.message)
    resumed = min(event.done for event in progress.events[since:] if event.unit == "steps")
    assert 1 < resumed <= before + 100
    assert before < 400


@dataclass(frozen=True)
class Elsewhere(PackedModel):
    """A model whose folder no node has; the command reads it where it really is."""

    @property
    def paths(self):
        return {name: path.replace(".elsewhere", "") for name, path in super().paths.items()}


def test_a_model_that_a_node_does_not_have_is_sent_to_it_once(request_for, reference, workspace, tmp_path, monkeypatch):
    from semfreeze_core.finetune.runner import ray_runner

    def packed(source, weights_digest):
        model = pack_model(source, weights_digest)
        return Elsewhere(f"{model.source}.elsewhere", model.sizes, model.key, model.is_file)

    monkeypatch.setattr(ray_runner, "pack_model", packed)
    node = {"num_cpus": 1, "env_vars": {"SEMFREEZE_HOME": str(tmp_path / "node")}}
    with cluster_of(node) as cluster, runner_on(cluster) as runner:
        report = validate(request_for(), tmp_path / "ray", runner=runner)
    require_equal(report, reference)
    (sent,) = [path for path in (tmp_path / "node" / "cache" / "sent").iterdir() if path.is_dir()]
    names = {path.name for path in (workspace / "model").iterdir() if path.is_file()}
    assert {path.name for path in sent.iterdir()} == names


def test_cancel_ends_the_arms_and_leaves_the_cluster(two_nodes, request_for, tmp_path):
    progress, errors = Watched(), []
    already = {process.pid for process in arm_processes()}
    with runner_on(two_nodes) as runner:

        def run():
            try:
                validate(request_for(steps=5000), tmp_path / "ray", runner=runner, progress=progress)
            except BaseException as error:
                errors.append(error)

        arms = threading.Thread(target=run)
        arms.start()
        wait_for(lambda: {event.lane for event in progress.events if event.unit == "steps"} >= {"full-seed0"})
        runner.cancel()
        arms.join(60)
        assert not arms.is_alive()
        wait_for(lambda: not {process.pid for process in arm_processes()} - already, 30)
    assert isinstance(errors[0], Canceled)
    assert all(node.remaining_processes_alive() for node in two_nodes.list_all_nodes())


HALVING = """
import json, os, sys
if "semfreeze_core.finetune.arm.process" in sys.orig_argv:
    job = json.load(open(sys.orig_argv[-1]))
    if job["arm"] is not None and job["settings"]["setup"]["micro_batch_size"] is None:
        with open(os.environ["BEGUN"], "a") as begun:
            begun.write("1")
        print(json.dumps({"reason": "none left"}), flush=True)
        os._exit(3)
    if job["arm"] is not None and job["arm"]["name"] == "planned":
        print(json.dumps({"reason": "not this one"}), flush=True)
        os._exit(4)
"""


def test_exit_codes_halve_and_refuse_and_nothing_is_retried(request_for, tmp_path):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(HALVING)
    path = os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": path, "BEGUN": str(tmp_path / "begun")}
    with cluster_of({"num_cpus": 1, "env_vars": variables}) as cluster, runner_on(cluster) as runner:
        report = validate(request_for(), tmp_path / "ray", runner=runner)
    assert (tmp_path / "begun").read_text() == "11"  # each arm once
    full, planned = report.arms["full"], report.arms["planned"]
    assert "Memory ran out: 2 examples at a time, 2 times per step. (none left)" in full.notes
    assert planned.reason.endswith("not this one")


@pytest.mark.parametrize(
    ("content", "message"),
    [("raise ImportError", "has no semfreeze"), ("", "has semfreeze 0.0.9")],
)
def test_a_node_with_another_version_or_none_is_refused_by_name(tmp_path, content, message):
    package = tmp_path / "semfreeze_core"
    package.mkdir()
    (package / "__init__.py").write_text(content)
    (package / "version.py").write_text("__version__ = '0.0.9'\n")
    node = {"num_cpus": 1, "env_vars": {"PYTHONPATH": str(tmp_path)}}
    with cluster_of(node) as cluster, pytest.raises(InputError) as error, runner_on(cluster):
        pytest.fail("it joined")
    assert message in str(error.value)
    assert ray_cluster.__version__ in str(error.value)


def test_a_cluster_without_a_gpu_is_refused_where_one_is_asked_for(two_nodes):
    from semfreeze_core.finetune.runner.ray_runner import ray_runner

    with pytest.raises(InputError, match="the Ray cluster has no GPU"), ray_runner(two_nodes.address, "cuda"):
        pytest.fail("it joined")


LOCAL = """
import sys
from pathlib import Path
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.plan.document import parse_plan
from semfreeze_core.records.training import TrainingSetup
workspace, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
plan = parse_plan((workspace / "plan.json").read_text())
request = ValidationRequest(
    plan, str(workspace / "train.jsonl"), str(workspace / "eval.jsonl"),
    TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=steps), arms=("full", "planned"),
    rates={"full": 3e-3, "frozen": 3e-3, "lora": 1e-2}, n_between=1, n_accuracy=4, n_eval=24,
)
validate(request, out, runner="ray", progress=lambda event: print(event.unit, event.done, flush=True))
from semfreeze_core.finetune.runner.ray_cluster import joined
with joined(None, "cpu") as again:
    print("again", again.at_once())
"""


def ray_processes():
    return {p.pid for p in psutil.process_iter(["name"]) if p.info["name"] in ("raylet", "gcs_server")}


@pytest.fixture
def local(workspace, request_for):
    """Starts a validation on a Ray of its own, in a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def start(out, steps):
        return subprocess.Popen(
            [sys.executable, "-c", LOCAL, str(workspace), str(out), str(steps)],
            stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip

    return start


def test_a_ray_of_its_own_gives_the_same_report_and_ends_with_the_command(local, reference, tmp_path):
    from semfreeze_core.runs.reports import read_validation

    before = ray_processes()
    process = local(tmp_path / "ray", 4)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0
    assert output.endswith("again 1\n")
    require_equal(read_validation(tmp_path / "ray"), reference)
    wait_for(lambda: not ray_processes() - before, 30)


def test_a_killed_command_takes_its_own_ray_and_its_arm_with_it(local, tmp_path):
    before, arms = ray_processes(), {process.pid for process in arm_processes()}
    process = local(tmp_path / "ray", 5000)
    for line in process.stdout:
        if line.startswith("steps 2"):
            break
    assert ray_processes() - before
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_for(lambda: not ray_processes() - before and not {p.pid for p in arm_processes()} - arms, 90)
