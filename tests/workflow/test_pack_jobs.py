"""How the cells of a plan are dealt out to cards. Snakemake's jobs and their groups are stand-ins here."""

from types import SimpleNamespace

import pytest

from gluegrid.workflow import pack_jobs
from gluegrid.workflow.pack_jobs import SmallCells


@pytest.fixture
def small(monkeypatch) -> SmallCells:
    """Small cells that take a second each, where there are four places on every kind of card."""
    monkeypatch.setattr(pack_jobs, "asked_for", lambda job: job.asked)
    monkeypatch.setattr(pack_jobs, "places_for", lambda workflow, asked: 4)
    monkeypatch.setattr(pack_jobs, "PackJob", lambda place, jobs, small: jobs)
    monkeypatch.setattr(SmallCells, "_is_packable", lambda self, dag, job: True)
    monkeypatch.setattr(SmallCells, "seconds_of", lambda self, job: 1)
    return SmallCells(experiment=None, estimates=None, pack_minutes=15)


def packs(small: SmallCells, **kinds_of_cards: str) -> list[str]:
    """Return the model of each pack, of models with twelve cells each that ask for these kinds of cards."""
    jobs = [
        SimpleNamespace(output=[f"{model}-{number}"], wildcards=SimpleNamespace(model=model), asked={"gpu_model": kind})
        for model, kind in kinds_of_cards.items()
        for number in range(12)
    ]
    dag = SimpleNamespace(workflow=None, needrun_jobs=lambda: jobs)
    made = small.packs(dag)
    assert sorted(job.output for pack in made for job in pack) == sorted(job.output for job in jobs)
    return sorted(pack[0].wildcards.model for pack in made)


def test_models_on_the_same_cards_share_them(small):
    assert packs(small, base="a100", large="a100") == ["base"] * 2 + ["large"] * 2


def test_models_on_cards_of_their_own_leave_none_of_them_idle(small):
    assert packs(small, base="v100", large="a100") == ["base"] * 4 + ["large"] * 4
