"""How a job gets into SLURM's queue: refused, waiting for another, not wanted any more. SLURM's programs are played."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_slurm import NAME, FakeSlurm, squeue_line
from waiting import wait_until

from gluegrid.common import provenance
from gluegrid.common.errors import GluegridError
from gluegrid.common.files import read_json, write_json
from gluegrid.execution import attempts, invocation, sbatch
from gluegrid.execution.array_jobs import script_of_array
from gluegrid.execution.reasons import Cause, Reason
from gluegrid.execution.submissions import refusal

STATE = Path("results/grid/state/tiny/rte/base/seed-42")
COMMAND = "python -m snakemake --target-jobs 'train:model=tiny,task=rte,variant=base,seed=42' --allowed-rules train "
COMMENT = "rule_train_wildcards_tiny_rte_base_42"
ARGUMENTS = ["--parsable", "--job-name", "uuid", "--comment", COMMENT, f"--wrap={COMMAND}"]
BUSY = (1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)")
LIMIT = (1, "", "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates")
ACCEPTED = (0, "17", "")


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    """A SLURM that accepts jobs as number 17, a head, and short pauses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(invocation.VARIABLE, "none yet")
    monkeypatch.setattr(sbatch, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sbatch, "LONGEST_PAUSE_SECONDS", 0.04)
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.put_on_path(monkeypatch)
    slurm.answers("sbatch", ACCEPTED)
    invocation.freeze({"experiment": "grid"}, Path("results/grid/heads"))
    return slurm


def told() -> list[str]:
    path = Path(os.environ[invocation.VARIABLE]).with_suffix(".messages")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_a_job_is_submitted_as_asked_and_its_number_is_kept(slurm):
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert slurm.calls("sbatch") == [ARGUMENTS]
    assert read_json(STATE / "slurm_job.json")["slurm_job_id"] == "17"
    assert read_json(STATE / "slurm_job.json")["head"] == os.environ[invocation.VARIABLE]


def test_a_job_given_as_a_script_is_one_too(slurm):
    slurm.answers("sbatch", (0, "17;other-cluster", ""))
    assert sbatch.submit(["--parsable", "/dev/stdin"], f"#!/bin/sh\n{COMMAND}") == "17;other-cluster"
    assert read_json(STATE / "slurm_job.json")["slurm_job_id"] == "17"


@pytest.mark.parametrize("asked", [["--clusters", "blue,green"], ["--clusters=all"], ["-Mblue,green"], []])
def test_a_job_of_a_cluster_is_noted_with_it_and_knows_its_number_so(slurm, monkeypatch, asked):
    if not asked:
        monkeypatch.setenv("SLURM_CLUSTERS", "blue,green")
    environments = []
    run = subprocess.run
    monkeypatch.setattr(sbatch.subprocess, "run", lambda *a, **o: environments.append(o["env"]) or run(*a, **o))
    slurm.answers("sbatch", (0, "17;green", ""))
    assert sbatch.submit([*asked, *ARGUMENTS], None) == "17;green"
    assert read_json(STATE / "slurm_job.json")["slurm_job_id"] == "17;green"
    in_its_job = {"SLURM_JOB_ID": "17", "SLURM_CLUSTER_NAME": "green", "SLURM_JOBID": "17"}
    for name, value in (environments[-1] | in_its_job).items():
        monkeypatch.setenv(name, value)
    assert provenance.job()["slurm_job_id"] == "17;green"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "16")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert provenance.job()["slurm_job_id"] == "16_3;green"
    monkeypatch.delenv(provenance.CLUSTERS)
    assert provenance.job()["slurm_job_id"] == "16_3"


@pytest.mark.parametrize(
    ("waits_for", "asked", "then"),
    [
        ("5;green", ["--clusters", "green"], ["--dependency=afterany:5", "--clusters", "green"]),
        ("5;green", ["--clusters", "blue,green"], ["--dependency=afterany:5", "--clusters=green"]),
        ("5_1;green", ["-M", "all"], ["--dependency=afterany:5_1", "--clusters=green"]),
        ("5", [], ["--dependency=afterany:5"]),
        ("5;green", ["--clusters", "blue"], None),
        ("5;green", [], None),
        ("5", ["--clusters", "blue,green"], None),
    ],
)
def test_a_job_waits_in_the_cluster_of_the_one_before_or_until_that_is_gone(slurm, waits_for, asked, then):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": waits_for, "name": NAME, "comment": COMMENT})
    number, _, cluster = waits_for.partition(";")
    listed = (f"CLUSTER: {cluster}\nJOBID|STATE\n" if cluster else "") + squeue_line(number, "RUNNING", comment=COMMENT)
    slurm.answers("squeue", (0, listed, ""), (0, listed, ""), (0, "", ""))
    sbatch.submit([*asked, *ARGUMENTS], None)
    (submitted,) = slurm.calls("sbatch")
    assert submitted == [*(then if then is not None else asked), *ARGUMENTS]
    asked_of = [word for word in slurm.calls("squeue")[0] if word.startswith("--clusters")]
    assert asked_of == ([f"--clusters={cluster}"] if cluster else [])
    if then is None:
        assert any("a job in another cluster cannot wait for it" in line for line in told())


def test_an_answer_that_was_lost_is_looked_for_in_each_cluster(slurm):
    slurm.answers("sbatch", BUSY)
    others = squeue_line("17", "RUNNING", "uuid", "another")
    mine = squeue_line("17", "PENDING", "uuid", COMMENT)
    slurm.answers("squeue", (0, f"CLUSTER: blue\nJOBID\n{others}\nCLUSTER: green\nJOBID\n{mine}", ""))
    assert sbatch.submit(["--clusters", "blue,green", *ARGUMENTS], None) == "17;green"
    assert "--clusters=blue,green" in slurm.calls("squeue")[0]


def commands_of(*tasks: str) -> list[str]:
    return [COMMAND.replace("task=rte", f"task={task}") for task in tasks]


def packed(first: str, *others: str, start: int = 1) -> str:
    """Return what the plugin gives an array job besides the command of its first task."""
    execs = {str(number): zlib.compress(other.encode()).hex() for number, other in enumerate(others, start + 1)}
    return base64.b64encode(json.dumps(execs).encode()).decode()


def array_of(*tasks: str) -> list[str]:
    """Return the arguments of an array job, as the plugin writes them, for the cells of these tasks."""
    commands = commands_of(*tasks)
    wrapped = f"--wrap={commands[0]} --slurm-jobstep-array-execs={packed(*commands)}"
    return [*ARGUMENTS[:-1], f"--array=1-{len(tasks)}", wrapped]


def array_as_script(*commands: str, start: int = 1) -> tuple[list[str], str]:
    """Return arguments and standard input of an array job, as the plugin writes them where a command line is short."""
    script = "\n".join(["#!/bin/sh", commands[0], "--slurm-jobstep-array-execs", packed(*commands, start=start)])
    return [*ARGUMENTS[:-1], f"--array={start}-{start + len(commands) - 1}", "/dev/stdin"], script


def run_task(script: str, number: int) -> subprocess.CompletedProcess:
    """Run a batch script as the task of this number, with nothing of ours in its environment."""
    environment = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(number)}
    return subprocess.run(["sh", "-s"], input=script, env=environment, capture_output=True, text=True)


def state_of(task: str) -> Path:
    return Path(str(STATE).replace("rte", task))


def test_each_cell_of_an_array_job_has_its_task_and_waits_for_its_earlier_jobs(slurm):
    write_json(state_of("cola") / "slurm_job.json", {"slurm_job_id": "5_2"})
    slurm.answers("squeue", (0, squeue_line("5_2", "RUNNING"), ""))
    arguments = array_of("rte", "cola", "mrpc")
    assert sbatch.submit(arguments, None) == "17"
    assert slurm.calls("sbatch") == [["--dependency=afterany:5_2", *arguments[:-1], "/dev/stdin"]]
    numbers = [read_json(state_of(task) / "slurm_job.json")["slurm_job_id"] for task in ("rte", "cola", "mrpc")]
    assert numbers == ["17_1", "17_2", "17_3"]


@pytest.mark.parametrize("is_script", [False, True])
def test_each_task_of_an_array_job_runs_the_command_of_its_own_cell_alone(slurm, monkeypatch, is_script):
    given = []
    monkeypatch.setattr(sbatch, "_call", lambda arguments, script: given.append(script) or accepted())
    tasks = ("rte", "cola", "mrpc")
    arguments, script = array_as_script(*commands_of(*tasks)) if is_script else (array_of(*tasks), None)
    sbatch.submit(arguments, script)
    for number, task in enumerate(tasks, start=1):
        shown = run_task(given[0].replace("exec /bin/sh -c", "exec echo"), number).stdout
        assert shown.count("--target-jobs") == shown.count(f"task={task},") == 1
        assert "array-execs" not in shown


def accepted() -> subprocess.CompletedProcess:
    return subprocess.CompletedProcess([], *ACCEPTED)


def test_a_task_ends_as_its_command_does_and_with_all_that_a_shell_understands():
    said = 'it\'s "all" $((1 + 1)) of `echo it`, größer\nand more'
    script = script_of_array({"_7": f"cat <<END && exit 3\n{said}\nEND", "_8": "true", "_9": "kill -9 $$"})
    done = run_task(script, 7)
    assert (done.returncode, done.stdout) == (3, 'it\'s "all" 2 of it, größer\nand more\n')
    assert [run_task(script, number).returncode for number in (8, 9)] == [0, -signal.SIGKILL]
    unknown = run_task(script, 10)
    assert unknown.returncode == 1
    assert "KeyError" in unknown.stderr


def test_an_array_of_a_thousand_tasks_is_far_from_the_limit_of_a_script(slurm):
    paths = " ".join(f"resources/{kind}/some-model@{'6bd548cb4d96' * 3}/manifest.json" for kind in range(40))
    commands = [f"{COMMAND}--wait-for-files {paths} results/{number:x}/run.json" for number in range(1000)]
    script = script_of_array({f"_{number}": command for number, command in enumerate(commands)})
    assert len("".join(commands)) > 3_000_000
    assert len(script) < 300_000


@pytest.mark.parametrize("array", ["--array=1-3", "--array=1-2%1", "--array=1,2", "--array=2-3"])
@pytest.mark.parametrize(
    "behind", ["", f"array-execs={packed(*commands_of('rte', 'cola'))}", "array-execs=nonsense", "pool=e30="]
)
def test_an_array_job_that_does_not_say_what_each_task_does_is_refused_in_one_line(slurm, array, behind):
    command = f"--wrap={COMMAND} --slurm-jobstep-{behind}"
    with pytest.raises(GluegridError, match=f"not submitted: {array}: .*leave out slurm-array-jobs$"):
        sbatch.submit([*ARGUMENTS[:-1], array, command], None)
    assert not slurm.calls("sbatch")


def test_the_numbers_of_the_tasks_of_an_array_job_need_not_begin_with_one(slurm):
    arguments, script = array_as_script(*commands_of("rte", "cola"), start=11)
    sbatch.submit(arguments, script)
    numbers = [read_json(state_of(task) / "slurm_job.json")["slurm_job_id"] for task in ("rte", "cola")]
    assert numbers == ["17_11", "17_12"]


def test_an_array_job_is_submitted_unless_all_its_cells_are_in_vain(slurm):
    attempts.cancel(state_of("rte"))
    assert sbatch.submit(array_of("rte", "cola"), None) == "17"
    attempts.cancel(state_of("cola"))
    with pytest.raises(GluegridError, match="not submitted: cancelled by make cancel"):
        sbatch.submit(array_of("rte", "cola"), None)
    slurm.answers("sbatch", (1, "", "sbatch: error: Invalid qos specification"))
    with pytest.raises(GluegridError, match="Invalid qos"):
        sbatch.submit(array_of("mrpc", "qqp"), None)
    noted = [read_json(state_of(task) / "refusal.json")["reason"] for task in ("mrpc", "qqp")]
    assert noted == ["sbatch: error: Invalid qos specification"] * 2


LATIN = "Willkommen im Gr\udcfcnen\n"


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("Welcome | to 2 clusters\n\n 2026 \n17\n", "17\n"),
        (LATIN + "17;blue\n", "17;blue\n"),
        ("17\nYou have 5 jobs in the queue.\n", "17\n"),
        ("Submitted batch job 17\n", "17\n"),
        ("checking...\nSubmitted batch job 17 on cluster blue\n", "17;blue\n"),
    ],
)
def test_whatever_a_sites_sbatch_says_besides_the_plugin_reads_the_number_alone(slurm, project, said, printed):
    slurm.answers("sbatch", (0, said, LATIN + "maintenance: submission failed last week, see motd\n"))
    program = [sys.executable, str(project / "scripts/slurm/on_head/sbatch"), *ARGUMENTS]
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
    assert read_json(STATE / "slurm_job.json")["slurm_job_id"] == "17"


def test_a_job_whose_number_nobody_says_is_looked_up_or_given_up_but_not_submitted_twice(slurm):
    slurm.answers("sbatch", (0, "Accepted.\nHave a nice day.\n", ""))
    slurm.answers(
        "squeue", (0, squeue_line("3", "RUNNING", "uuid", COMMENT) + squeue_line("17", "PENDING", "uuid", COMMENT), "")
    )
    assert sbatch.submit(ARGUMENTS, None) == "17"
    slurm.answers("squeue", (0, "", ""))
    with pytest.raises(
        GluegridError, match=r"printed no number, which gluegrid needs; it said: Accepted\. Have a nice day\.$"
    ):
        sbatch.submit(ARGUMENTS, None)
    assert len(slurm.calls("sbatch")) == 2


def test_a_banner_beside_an_error_decides_nothing(slurm):
    banner = "/etc/motd.d/quota: No such file or directory\n" + LATIN
    slurm.answers("sbatch", (1, banner, banner + BUSY[2]), ACCEPTED)
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert f"rte_base_42: {BUSY[2]}; trying" in told()[0]
    slurm.answers("sbatch", (1, "your project has no GPU hours left: invalid account\n", ""))
    with pytest.raises(GluegridError, match=r"^your project has no GPU hours left"):
        sbatch.submit(ARGUMENTS, None)


NOTED = {"slurm_job_id": "5", "name": NAME, "comment": COMMENT}
OLD = {"slurm_job_id": "5"}  # as earlier releases wrote it
OTHER_NAME = NAME.replace("0a", "ff")


@pytest.mark.parametrize(
    ("noted", "line", "is_ours"),
    [
        (NOTED, squeue_line("5", "RUNNING", comment=COMMENT), True),
        (NOTED, squeue_line("5", "RUNNING"), True),  # the site keeps no comments,
        (NOTED, squeue_line("5", "RUNNING", comment="charged to project 7"), True),  # or writes its own
        (NOTED, squeue_line("5", "RUNNING", user=99999, comment=COMMENT), True),  # a clone that two people share
        (NOTED, squeue_line("5", "RUNNING", OTHER_NAME, COMMENT), False),  # the same cell in another clone
        (NOTED, squeue_line("5", "RUNNING", comment=COMMENT + "1"), False),  # another cell of the same call
        (NOTED, squeue_line("5", "RUNNING", "bash"), False),
        (OLD, squeue_line("5", "RUNNING", comment=COMMENT), True),
        (OLD, squeue_line("5", "RUNNING"), True),
        (OLD, squeue_line("5", "RUNNING", "glue_" + NAME), True),
        (OLD, squeue_line("5", "RUNNING", user=99999, comment=COMMENT), False),
        (OLD, squeue_line("5", "RUNNING", comment=COMMENT + "1"), False),
        (OLD, squeue_line("5", "RUNNING", "wrap"), False),
        (OLD | {"slurm_job_id": "5_2"}, squeue_line("5_2", "RUNNING", comment=COMMENT + "1"), True),  # the first cell's
        (OLD | {"slurm_job_id": "5_2"}, squeue_line("5_2", "RUNNING", comment="rule_other"), False),
        (NOTED | {"slurm_job_id": "5_2"}, squeue_line("5_2", "RUNNING", OTHER_NAME, COMMENT), False),
    ],
)
def test_of_the_jobs_that_have_its_numbers_a_cell_waits_for_its_own_alone(slurm, noted, line, is_ours):
    write_json(STATE / "slurm_job.json", noted)
    slurm.answers("squeue", (0, line, ""))
    sbatch.submit(ARGUMENTS, None)
    waits = [f"--dependency=afterany:{noted['slurm_job_id']}"] if is_ours else []
    assert slurm.calls("sbatch") == [[*waits, *ARGUMENTS]]


def test_a_job_that_holds_the_lock_is_known_by_name_though_another_was_submitted_behind_it(slurm):
    write_json(STATE / "slurm_job.json", NOTED)
    write_json(STATE / "lock", {"slurm_job_id": "5"})
    slurm.answers("squeue", (0, squeue_line("5", "RUNNING"), ""))
    sbatch.submit(ARGUMENTS, None)
    another = [argument.replace("uuid", OTHER_NAME) for argument in ARGUMENTS]
    slurm.answers("squeue", (0, squeue_line("5", "RUNNING", OTHER_NAME) + squeue_line("17", "PENDING", "uuid"), ""))
    sbatch.submit(another, None)
    slurm.answers("squeue", (0, squeue_line("5", "RUNNING") + squeue_line("17", "PENDING", "uuid"), ""))
    sbatch.submit(another, None)
    assert [call[0] for call in slurm.calls("sbatch")] == [
        "--dependency=afterany:5",
        "--dependency=afterany:17",
        "--dependency=afterany:5",
    ]


@pytest.mark.parametrize("number", ["Welcome to 5 clusters\n17", "17; blue", "", None, ["5"], {"a": 1}, 1.5])
def test_what_is_no_number_of_a_job_is_asked_of_nobody(slurm, number):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": number, "behind": "x"})
    write_json(STATE / "lock", {"slurm_job_id": number})
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert (slurm.calls("squeue"), slurm.calls("sbatch")) == ([], [ARGUMENTS])


def test_the_job_of_the_attempt_before_is_not_taken_for_the_one_just_submitted(slurm):
    write_json(STATE / "slurm_job.json", NOTED | {"name": "uuid"})
    slurm.answers("squeue", (0, squeue_line("5", "COMPLETING", "uuid", COMMENT), ""))
    slurm.answers("sbatch", BUSY, ACCEPTED)
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert len(slurm.calls("sbatch")) == 2


@pytest.mark.parametrize("moment", ["2000-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_refusal_is_of_the_attempt_that_it_follows_whatever_the_clocks_say(slurm, monkeypatch, moment):
    slurm.answers("sbatch", (1, "", "sbatch: error: Invalid qos specification"))
    monkeypatch.setattr(attempts, "now", lambda: moment)  # of the node
    attempts.start(STATE, "hash")
    with pytest.raises(GluegridError):
        sbatch.submit(ARGUMENTS, None)
    assert str(refusal(STATE, attempts.read(STATE))).partition(";")[0].endswith("Invalid qos specification")
    monkeypatch.setattr(attempts, "now", lambda: moment.replace("00:00:00", "00:00:01"))
    attempts.start(STATE, "hash")
    assert refusal(STATE, attempts.read(STATE)) is None


@pytest.mark.parametrize("command", ["hostname", "snakemake --target-jobs 'results:' --allowed-rules results "])
def test_another_job_is_passed_through(slurm, command):
    assert sbatch.submit([f"--wrap={command}"], None) == "17"
    assert not Path("results/grid/state").exists()


def test_what_was_refused_for_a_while_is_tried_again_with_growing_pauses_and_told(slurm):
    slurm.answers("sbatch", BUSY, LIMIT, BUSY, ACCEPTED)
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert len(slurm.calls("sbatch")) == 4
    lines = told()
    assert [line.rpartition("in ")[2] for line in lines] == ["0.01 s", "0.02 s", "0.04 s"]
    assert (
        "SLURM refuses a job of train tiny_rte_base_42: sbatch: error: Batch job submission failed: Unable to"
        in lines[0]
    )


@pytest.mark.parametrize(
    "complaint",
    [
        "Invalid account or account/partition combination specified",
        "invalid partition specified: gpux",
        "Invalid qos specification",
        "Invalid feature specification",
        "Invalid GRES specification (with and without type identification)",
        "Requested node configuration is not available",
        "sbatch: unrecognized option '--gpuss=1'",
        "Memory specification can not be satisfied",
        "CPU count per node can not be satisfied",
        "No partition specified or system default partition",
        "Requested time limit is invalid (missing or exceeds some limit)",
        "AssocMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting policy",
    ],
)
def test_what_waiting_cannot_mend_fails_at_once(slurm, complaint):
    slurm.answers("sbatch", (1, "", f"sbatch: error: {complaint}"))
    with pytest.raises(GluegridError, match=complaint.split()[0]):
        sbatch.submit(ARGUMENTS, None)
    assert len(slurm.calls("sbatch")) == 1
    assert not told()
    assert str(refusal(STATE, [])).startswith("SLURM took no job for it: sbatch: error: " + complaint.split()[0])
    slurm.answers("sbatch", ACCEPTED)
    sbatch.submit(ARGUMENTS, None)
    assert refusal(STATE, []) is None


def test_patience_ends(slurm, monkeypatch):
    slept = []
    monkeypatch.setattr(sbatch, "time", SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append))
    slurm.answers("sbatch", BUSY)
    monkeypatch.setattr(sbatch, "PATIENCE_SECONDS", 2.5 * sbatch.FIRST_PAUSE_SECONDS)
    with pytest.raises(GluegridError, match="Unable to contact"):
        sbatch.submit(ARGUMENTS, None)
    assert len(slurm.calls("sbatch")) > 1
    assert sum(slept) >= sbatch.PATIENCE_SECONDS


def test_a_job_whose_answer_was_lost_is_not_submitted_twice(slurm):
    slurm.answers("sbatch", (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv"))
    jobs = (
        ("9", "PENDING", COMMENT),
        ("15", "COMPLETED", COMMENT),
        ("16", "PENDING", "other"),
        ("17", "PENDING", COMMENT),
    )
    lines = (squeue_line(number, state, "uuid", comment) for number, state, comment in jobs)
    slurm.answers("squeue", (0, "".join(lines), ""))
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert len(slurm.calls("sbatch")) == 1


def test_a_job_waits_in_the_queue_for_those_that_another_head_left_there(slurm):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": "5"})
    write_json(STATE / "lock", {"slurm_job_id": "4"})
    slurm.answers("squeue", (0, squeue_line("4", "RUNNING") + squeue_line("5", "PENDING"), ""))
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert slurm.calls("squeue")[0][-1] == "--jobs=4,5"
    assert slurm.calls("sbatch") == [["--dependency=afterany:4:5", *ARGUMENTS]]


@pytest.mark.parametrize(
    "answer",
    [(0, squeue_line("5", "COMPLETED"), ""), (0, "", ""), (1, "", "slurm_load_jobs error: Invalid job id specified")],
)
def test_a_job_waits_for_none_that_has_ended(slurm, answer):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": "5"})
    slurm.answers("squeue", answer)
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert slurm.calls("sbatch") == [ARGUMENTS]


def test_a_job_that_ended_just_now_is_not_waited_for(slurm):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": "5"})
    slurm.answers("squeue", (0, squeue_line("5", "RUNNING"), ""))
    slurm.answers("sbatch", (1, "", "sbatch: error: Batch job submission failed: Job dependency problem"), ACCEPTED)
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert slurm.calls("sbatch")[1] == ARGUMENTS


def test_nothing_is_submitted_while_nobody_knows_what_is_queued(slurm):
    write_json(STATE / "slurm_job.json", {"slurm_job_id": "5"})
    slurm.answers(
        "squeue",
        (1, "", "slurm_load_jobs error: Unable to contact slurm controller"),
        (0, squeue_line("5", "RUNNING"), ""),
    )
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert slurm.calls("sbatch") == [["--dependency=afterany:5", *ARGUMENTS]]


def test_a_cell_that_was_cancelled_or_fails_for_good_is_not_submitted(slurm):
    attempts.start(STATE, "hash")
    attempts.end(STATE, Reason(Cause.FAILED, "loss is NaN at step 3"), is_permanent=True)
    with pytest.raises(GluegridError, match="not submitted: loss is NaN at step 3"):
        sbatch.submit(ARGUMENTS, None)
    invocation.freeze({"experiment": "grid"}, Path("results/grid/heads"))
    assert sbatch.submit(ARGUMENTS, None) == "17"
    attempts.cancel(STATE)
    with pytest.raises(GluegridError, match="not submitted: cancelled by make cancel"):
        sbatch.submit(ARGUMENTS, None)
    assert len(slurm.calls("sbatch")) == 1


def test_an_interrupted_head_submits_nothing_more_and_takes_back_what_it_just_did(slurm, monkeypatch):
    monkeypatch.setattr(sbatch, "note_job", lambda *noted, **more: invocation.interrupt())
    with pytest.raises(GluegridError, match="the call of snakemake that wanted it has ended"):
        sbatch.submit(ARGUMENTS, None)
    assert slurm.calls("scancel") == [["17"]]
    with pytest.raises(GluegridError, match="the call of snakemake that wanted it has ended"):
        sbatch.submit(ARGUMENTS, None)
    assert len(slurm.calls("sbatch")) == 1


def test_the_job_is_kept_though_its_number_cannot_be_written(slurm):
    STATE.parent.mkdir(parents=True)
    STATE.write_text("no folder")
    assert sbatch.submit(ARGUMENTS, None) == "17"
    assert "'slurm_job_id': '17'" in told()[0]


def test_a_waiting_submission_ends_with_its_head(slurm, project, tmp_path):
    slurm.answers("sbatch", BUSY)
    program = (
        "import os, pathlib, subprocess, sys; from gluegrid.execution import invocation;"
        "invocation.freeze({'experiment': 'grid'}, pathlib.Path('results/grid/heads'));"
        f"print(subprocess.Popen([{str(project / 'scripts/slurm/on_head/sbatch')!r}, 'x']).pid, flush=True);"
        "sys.stdin.read()"
    )
    # As a head sets it: our sbatch is run by the first python3 there.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(project / "scripts"), "PATH": path}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    submitting = int(process.stdout.readline())
    assert wait_until(lambda: slurm.calls("sbatch"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not Path(f"/proc/{submitting}").exists())


def test_a_head_shows_what_it_is_told_and_half_a_line_only_when_it_is_whole(slurm, monkeypatch, capsys):
    monkeypatch.setattr(invocation, "POLL_SECONDS", 0.02)
    invocation.show_messages()
    invocation.tell_terminal("SLURM is busy")
    with Path(os.environ[invocation.VARIABLE]).with_suffix(".messages").open("a") as stream:
        stream.write("half")
    shown = []
    assert wait_until(lambda: shown.append(capsys.readouterr().err) or "SLURM is busy" in "".join(shown))
    time.sleep(0.5)
    shown = "".join([*shown, capsys.readouterr().err])
    assert shown.endswith("SLURM is busy\n")
    assert "half" not in shown
