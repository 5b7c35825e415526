"""SLURM's answers of 20.11 to 26.05 (tests/data/slurm), asked through programs that stand in for it, and the profiles
that are proposed after them.
"""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from fake_slurm import FakeSlurm

from gluegrid.execution.slurm_nodes import cards_in
from gluegrid.site import slurm_site
from gluegrid.site.job_request import NoRequestError, Request, _forms, accepted_request, usable_partitions
from gluegrid.site.proposed_profile import SHIPPED, choices_for, entry, profile_text
from gluegrid.site.slurm_answers import minutes_in, nodes_in, seconds_in
from gluegrid.site.slurm_findings import site_findings
from gluegrid.site.slurm_site import Site, ask_site

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "slurm"
RELEASES = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
SITES_OWN = {"default-resources", "set-resources", "jobs"}
ASKED: dict[str, Site] = {}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> FakeSlurm:
    """Programs that stand in for SLURM's."""
    slurm = FakeSlurm(tmp_path / "slurm")
    slurm.put_on_path(monkeypatch)
    return slurm


def answer_as(slurm: FakeSlurm, release: str) -> None:
    """Let the programs answer as those of a release."""
    texts = {path.stem: path.read_bytes().decode("utf-8", "surrogateescape") for path in (SAMPLES / release).iterdir()}
    slurm.answers("scontrol", (0, texts["config"], ""), (0, texts["partitions"], ""))
    slurm.answers("sinfo", (0, texts["version"], ""), (0, texts["nodes"], ""))
    slurm.answers("sacctmgr", *((0, texts[name], "") for name in ("user", "associations", "qos")))


def site_of(slurm: FakeSlurm, release: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a release's site as its user sees it, who is not root. Each is asked for once only."""
    if release not in ASKED:
        monkeypatch.setattr(slurm_site, "name_of_user", lambda: "root" if release == "22.05" else "alice")
        answer_as(slurm, release)
        ASKED[release] = dataclasses.replace(ask_site(), is_root=False, groups=frozenset({"users"}))
        assert ASKED[release].has_accounting == bool(slurm.calls("sacct"))
    return ASKED[release]


# Of each release: version, cluster, default account, the usable partitions with GPUs (or all, without any) and what
# they have, the best first.
SITES = {
    "20.11": ("20.11.9", "valley", "default_lab", {"gpu": {"v100": 24}}),
    "21.08": ("21.08.5", "lab", None, {"all": {"": 8}}),
    "22.05": (
        "22.05.8",
        "gluegrid_test",
        "gluegrid",
        {
            "gpu": {"v100": 4, "a100": 4},
            "high": {"v100": 4, "a100": 4},
            "gpu-short": {"v100": 4},
            "low": {"v100": 4, "a100": 4},
        },
    ),
    "23.02": ("23.02.7", "cloud", "default", {"a2": {"a100": 10}, "spot": {"a100": 50}}),
    "23.11": ("23.11.10", "small", None, {"gpu": {"a100_3g.20gb": 4, "a100": 6}}),
    "24.05": ("24.05.4", "Abbey", "monks", {"gpu_a100": {"a100": 16}}),
    "24.11": ("24.11.3", "hub", "research", {"debug": {"h100": 8}}),
    "25.05": ("25.05.1", "campus", "guests", {"input": {"l40s": 10}}),
    "25.11": ("25.11.2", "cpus", "bio", {"compute": {}}),
    "26.05": ("26.05.0-0rc1", "newest", "nlp", {"h200": {}}),
}
# Of each release: what the best partition's job asks for, and what the profile says for it.
PROPOSALS = {
    "20.11": (
        Request("gpu", "alice_lab", None, "--gres=gpu:v100:1"),
        {"slurm_account": "alice_lab", "slurm_partition": "gpu", "gpu_model": "v100", "gres": "gpu", "jobs": 39},
    ),
    "21.08": (Request("all", None, None, "--gpus=1"), {"slurm_partition": "'all'"}),
    "22.05": (Request("gpu", "gluegrid", None, "--gpus=1"), {"slurm_account": "gluegrid", "slurm_partition": "gpu"}),
    "23.02": (
        Request("a2", "default", None, "--gpus=a100:1"),
        {"slurm_account": "default", "slurm_partition": "a2", "gpu_model": "a100"},
    ),
    "23.11": (Request("gpu", None, None, "--gpus=1"), {"slurm_partition": "gpu"}),
    "24.05": (
        Request("gpu_a100", "monks", "gpu_a100", "--gpus=a100:1"),
        {"slurm_account": "monks", "slurm_partition": "gpu_a100", "gpu_model": "a100", "qos": "gpu_a100"}
        | {"jobs": 11},
    ),
    "24.11": (
        Request("debug", "research", None, "--gpus=h100:1"),
        {"slurm_account": "research", "slurm_partition": "debug", "gpu_model": "h100"} | {"runtime": 30, "jobs": 3},
    ),
    "25.05": (
        Request("input", "nlp", None, "--gpus=l40s:1"),
        {"slurm_account": "nlp", "slurm_partition": "'input'", "gpu_model": "l40s"},
    ),
    "25.11": (Request("compute", "bio", None, ""), {"slurm_account": "bio", "slurm_partition": "compute", "gpu": 0}),
    "26.05": (
        Request("h200", "nlp", None, "--gpus=nvidia_h200:1"),
        {"slurm_account": "nlp", "slurm_partition": "h200", "gpu_model": "nvidia_h200"},
    ),
}


def test_every_release_is_expected():
    assert RELEASES == sorted(SITES) == sorted(PROPOSALS)


@pytest.mark.parametrize("release", RELEASES)
def test_a_site_is_read(release, slurm, monkeypatch):
    site = site_of(slurm, release, monkeypatch)
    version, cluster, account, partitions = SITES[release]
    assert (site.version, site.cluster, site.default_account) == (version, cluster, account)
    assert not site.complaint_of_accounting
    assert {partition.name: partition.cards for partition in usable_partitions(site)} == partitions
    assert [partition.name for partition in usable_partitions(site)] == [*partitions]


@pytest.mark.parametrize("release", RELEASES)
def test_a_profile_is_the_shipped_one_with_the_lines_of_the_site_and_a_reason_beside_each(release, slurm, monkeypatch):
    site = site_of(slurm, release, monkeypatch)
    expected, values = PROPOSALS[release]
    request = accepted_request(site, 10)
    assert request == expected
    partition = next(one for one in site.partitions if one.name == request.partition)
    text = profile_text(SHIPPED.read_text(encoding="utf-8"), choices_for(site, partition, request), Path("p"), "c")
    proposed, shipped = yaml.safe_load(text), yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert {key: value for key, value in proposed.items() if key not in SITES_OWN} == {
        key: value for key, value in shipped.items() if key not in SITES_OWN
    }
    said = {key: value for key, _, value in (one.partition("=") for one in proposed["default-resources"])}
    said |= proposed.get("set-resources", {}).get("train", {})
    said |= {"jobs": proposed["jobs"]} if proposed["jobs"] != shipped["jobs"] else {}
    assert {key: value for key, value in said.items() if key != "mem_mb"} == {"runtime": "60"} | values
    added = [line for line in text.splitlines()[1:] if line not in SHIPPED.read_text(encoding="utf-8").splitlines()]
    assert added
    assert all(re.search(r"  # \w", line) for line in added if line not in ("set-resources:", "  train:"))


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (
            "20.11",
            "partition gpu-dept: 96 a100 on 12 nodes of 512 GB, at most 7 d 00 h; you may not use it (it accepts",
        ),
        ("20.11", "partition gpu: 24 v100 on 6 nodes of 384 GB, at most 2 d 00 h"),
        ("21.08", "SLURM forgets ended jobs after 10 s (MinJobAge), and there is no accounting to ask"),
        ("23.02", "array jobs are switched off (MaxArraySize)"),
        (
            "23.02",
            "partition spot: 50 a100 on 50 nodes of 85 GB, no time limit; its jobs can be preempted",
        ),
        ("23.11", "no SLURM accounting here: how jobs end is asked of squeue, as the profile sets it"),
        ("24.05", "SLURM's accounting answers; ended jobs stay listed for 600 s (MinJobAge)"),
        (
            "24.11",
            "partition long: 64 h100 on 8 nodes of 1,031 GB, at most 7 d 00 h; you may not use it (it is closed)",
        ),
        ("24.11", "partition admin: 72 h100 on 9 nodes of 1,031 GB, no time limit; you may not use it (RootOnly)"),
        (
            "24.11",
            "partition staff: 72 h100 on 9 nodes of 1,031 GB, no time limit;"
            " you may not use it (AllowGroups=staff_of_the_hub)",
        ),
        ("24.11", "you may have 4 jobs in the queue (MaxSubmitJobs)"),
        ("25.11", "no partition has GPUs; there are: compute"),
        (
            "26.05",
            "partition h200 (default): 32 nvidia_h200 on 4 nodes of 2,063 GB, at most 2 d 00 h;"
            " none of its nodes is up now",
        ),
    ],
)
def test_what_is_found_is_told(release, said, slurm, monkeypatch):
    found = [finding.what for finding in site_findings(site_of(slurm, release, monkeypatch))]
    assert any(what.startswith(said) for what in found), found


def test_gpus_of_others_are_told_and_the_profile_does_without(slurm, monkeypatch):
    site = site_of(slurm, "24.05", monkeypatch)
    site = dataclasses.replace(
        site, partitions=[dataclasses.replace(one, is_up=not one.has_cards) for one in site.partitions]
    )
    assert "you may not use any partition with GPUs" in [finding.what for finding in site_findings(site)]
    request = accepted_request(site, 10)
    assert (request.partition, request.gpus) == ("standard", "")


def test_an_account_of_one_partition_is_not_taken_for_another(slurm, monkeypatch):
    site = site_of(slurm, "25.05", monkeypatch)
    of_cpus, of_gpus = site.partitions
    assert (site.account_for(of_cpus), site.account_for(of_gpus)) == ("guests", "nlp")
    assert site.account_for(dataclasses.replace(of_cpus, not_accounts=["guests"])) is None


def test_what_is_no_line_of_the_asked_shape_does_not_count():
    assert nodes_in("Welcome | to | the | cluster | of | 2026 | !| *\n\ngpu|up|idle|x|1|1|gpu:1|\n\udcfc\n") == []


@pytest.mark.parametrize(
    ("gres", "cards"),
    [
        ("(null)", {}),
        ("gpu", {"": 1}),
        ("gpu:4", {"": 4}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:2(IDX:0-1),gpu:a100:2(IDX:2,3)", {"a100": 4}),
        ("nvme:3600,gpu:v100:4(S:0-1)", {"v100": 4}),
        ("gres/gpu:h100:8", {"h100": 8}),
        ("gpu:tesla:no_consume:2", {"tesla": 2}),
        ("gpu:no_consume:2", {"": 2}),
        ("mps:400,shard:16,craynetwork:4", {}),
        ("gpu:a100_1g.5gb:7(S:0),gpu:a100:0", {"a100_1g.5gb": 7}),
        ("gpu:2080ti:2", {"2080ti": 2}),
    ],
)
def test_cards_of_generic_resources(gres, cards):
    assert cards_in(gres) == cards


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("UNLIMITED", None),
        ("infinite", None),
        ("NONE", None),
        ("", None),
        ("n/a", None),
        ("soon", None),
        ("1-00:00:00", 1440),
        ("7-12", 10800),
        ("01:00:00", 60),
        ("30:00", 30),
        ("45", 45),
        ("0-00:10:30", 10),
    ],
)
def test_durations(text, minutes):
    assert minutes_in(text) == minutes


def test_seconds_of_the_configuration():
    assert [seconds_in(text) for text in ("300 sec", "0", "(null)", "")] == [300, 0, None, None]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("gpu", "slurm_partition=gpu"),
        ("gpu-short", "slurm_partition=gpu-short"),
        ("all", "\"slurm_partition='all'\""),
        ("max-gpu", "\"slurm_partition='max-gpu'\""),
        ("if", "\"slurm_partition='if'\""),
        ("1e3", "\"slurm_partition='1e3'\""),
        ("threads", "\"slurm_partition='threads'\""),
        ("a b", "\"slurm_partition='a b'\""),
        ("x#y: z", "\"slurm_partition='x#y: z'\""),
        ("it's", '"slurm_partition=\\"it\'s\\""'),
        (60, "slurm_partition=60"),
    ],
)
def test_a_name_in_a_profile_stays_one_whatever_python_or_yaml_would_make_of_it(value, written):
    assert entry("slurm_partition", value) == written
    read = yaml.safe_load(f"- {written}")[0].removeprefix("slurm_partition=")
    # As Snakemake reads it, in whose expressions these names stand for something.
    names = {"threads": 1, "input": [], "attempt": 1}
    try:
        evaluated = eval(read, names)
    except (NameError, SyntaxError):
        evaluated = read
    assert evaluated == value


def test_the_forms_of_a_request_end_with_those_without_memory(slurm, monkeypatch):
    site = site_of(slurm, "22.05", monkeypatch)
    forms = [(form.gpus, form.names_memory) for form in _forms(site, site.partitions[0])]
    assert forms == [("--gpus=1", True), ("--gres=gpu:1", True), ("--gpus=1", False), ("--gres=gpu:1", False)]


def test_what_a_site_refuses_is_asked_for_otherwise_and_the_profile_says_it(slurm, monkeypatch):
    site = site_of(slurm, "22.05", monkeypatch)
    no_gpus = (1, "", "sbatch: error: Invalid generic resource (gres) specification\n")
    no_memory = (1, "", "sbatch: error: do not ask for memory here\nallocation failure: Unspecified error\n")
    slurm.answers("sbatch", no_gpus, no_memory, no_gpus, (0, "", "sbatch: Job 7 to start at 2026-12-01T00:00:00"))
    request = accepted_request(site, 10)
    assert (request.gpus, request.names_memory) == ("--gres=gpu:1", False)
    assert all("--test-only" in call for call in slurm.calls("sbatch"))
    partition = site.partitions[0]
    text = profile_text(SHIPPED.read_text(encoding="utf-8"), choices_for(site, partition, request), Path("p"), "c")
    assert yaml.safe_load(text)["set-resources"]["train"] == {"gres": "gpu", "mem_mb": 0}


def test_nodes_that_are_busy_are_no_refusal(slurm, monkeypatch):
    site = site_of(slurm, "22.05", monkeypatch)
    slurm.answers("sbatch", (1, "", "allocation failure: Requested nodes are busy\n"))
    assert accepted_request(site, 10).gpus == "--gpus=1"


def test_nodes_that_are_all_out_of_use_are_no_refusal(slurm, monkeypatch):
    unavailable = (1, "", "allocation failure: Requested node configuration is not available\n")
    slurm.answers("sbatch", unavailable)
    assert accepted_request(site_of(slurm, "26.05", monkeypatch), 10).partition == "h200"
    slurm.answers("sbatch", unavailable)
    with pytest.raises(NoRequestError, match="gpu: allocation failure: Requested node configuration"):
        accepted_request(site_of(slurm, "22.05", monkeypatch), 10)


def test_an_accounting_that_does_not_answer_is_a_note(slurm, monkeypatch):
    answer_as(slurm, "22.05")
    slurm.answers("sacctmgr", (1, "", "sacctmgr: error: Problem talking to the database: Connection refused\n"))
    site = ask_site()
    assert (site.default_account, site.associations) == (None, [])
    (finding,) = [finding for finding in site_findings(site) if finding.mark == "note"]
    assert "Problem talking to the database" in finding.what
    assert not [finding for finding in site_findings(site) if finding.mark == "FAULT"]


def test_a_user_without_an_account_where_one_is_needed_is_a_fault(slurm, monkeypatch):
    answer_as(slurm, "22.05")
    monkeypatch.setattr(slurm_site, "name_of_user", lambda: "nobody_here")
    assert [finding.mark for finding in site_findings(ask_site()) if "has no account" in finding.what] == ["FAULT"]
