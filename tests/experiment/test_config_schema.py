"""The schema of the experiment file, and that whatever it is given is an experiment or one line for each mistake."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gluegrid.common.errors import ConfigError
from gluegrid.experiment.cell import run_text
from gluegrid.experiment.config import REGISTRY, load_registry, unswept_schema
from gluegrid.experiment.loading import load_experiment

VALID = {"experiment": "small", "models": {"bert": {"source": "org/bert"}}, "tasks": ["cola", "rte"]}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def nodes_of(schema: dict, name: str = "top"):
    """Yield every place of the schema with its name."""
    yield name, schema
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(key), dict):
            yield from nodes_of(schema[key], f"{name}.{key}")
    for key, value in schema.get("properties", {}).items():
        yield from nodes_of(value, f"{name}.{key}")


@pytest.mark.parametrize(("name", "node"), list(nodes_of(unswept_schema())))
def test_the_schema_describes_every_place_and_uses_only_keywords(name, node):
    kinds = {"type", "enum", "description", "properties", "additionalProperties", "propertyNames", "required", "items"}
    limits = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"}
    limits |= {"minItems", "maxItems", "uniqueItems", "minProperties"}
    # An unquoted comma in a description would make the rest of it a key.
    assert node.keys() <= kinds | limits | ({"$schema", "$defs"} if name == "top" else set())
    assert name == "top" or "description" in node
    assert node.get("type") != "object" or "properties" not in node or node["additionalProperties"] is False


def test_the_registry_passes_its_own_checks():
    assert REGISTRY.name == "tasks.yaml"
    assert all(task["metrics"] for task in load_registry().values())


ODD_TEXTS = st.text(
    st.characters() | st.sampled_from("е\u200b\u2028\u202e\ud800\x00\x1b\ufeff'\"\\{}$`./~-"), max_size=8
)
PLACES = unswept_schema()["properties"]
KEYS = st.sampled_from(sorted({name.rpartition(".")[2] for name, _ in nodes_of({"properties": PLACES})}))
KEYS |= st.sampled_from(["bert", "cola", "rte", "org/bert", ""]) | ODD_TEXTS
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ODD_TEXTS
    | st.sampled_from(
        ["org/bert", "./x", "~/x", "cola", "cpu", "accuracy", 1, 42, 2e-5, [42], ["cola"], {"cola": None}, "x" * 300]
    )
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
NAMES = st.sampled_from(["bert", "BERT", "cola", "rte", "mnli", "ax", "mine", "validation", "test", "train"])


def near(schema: dict) -> st.SearchStrategy:
    """Values of a place of the schema: most as it wants them, some nearly so."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    wanted = [st.sampled_from(schema["enum"])] if "enum" in schema else []
    if "object" in kinds:
        if "properties" in schema:
            known = {key: near(value) for key, value in schema["properties"].items()}
            wanted += [some_of(known, schema.get("required", []))]
        else:
            wanted += [st.dictionaries(NAMES, near(schema["additionalProperties"]), min_size=1, max_size=3)]
    if "array" in kinds:
        wanted += [st.lists(near(schema["items"]), min_size=1, max_size=3)]
    if "string" in kinds:
        wanted += [st.from_regex(schema["pattern"])] if "pattern" in schema else [NAMES]
    if "boolean" in kinds:
        wanted += [st.booleans()]
    if "integer" in kinds:
        wanted += [st.integers(schema["minimum"], min(schema["maximum"], 1000))]
    if "number" in kinds:
        wanted += [st.floats(1e-6, 1)]
    return st.integers(0, 20).flatmap(lambda number: st.one_of(*wanted) if number and wanted else TREES)


def some_of(known: dict, needed: list[str]) -> st.SearchStrategy:
    """Mappings with the needed keys and up to three others."""
    keys = st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)
    return keys.flatmap(lambda names: st.fixed_dictionaries({name: known[name] for name in [*needed, *names]}))


NEARLY_VALID = some_of({name: near(place) for name, place in PLACES.items()}, [])
PIECES = st.sampled_from(
    [*"\n\t :-[]{}#&*!|>%@`'\"?,~<", "\n  ", "&a ", "*a", "<<: ", "<<: *a\n", "!!int ", "!x ", "- ", "---\n", "...\n"]
) | st.text(max_size=3)
SHIPPED = (REGISTRY.parents[1] / "config.yaml").read_text(encoding="utf-8")
EDITS = st.lists(st.tuples(st.integers(0, len(SHIPPED)), st.integers(0, 9), PIECES), min_size=1, max_size=4)
CHECKED = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def check_outcome(content: str | bytes) -> None:
    """A file is an experiment, or a ConfigError whose lines name the file, are short, and are safe for a terminal."""
    Path("c.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        experiment = load_experiment(Path("c.yaml"))
    except ConfigError as error:
        lines = error.problems
        assert lines
    else:
        lines = experiment.warnings
        assert all(json.loads(run_text(cell)) == cell.run for cell in experiment.cells.values())
    for line in lines:
        assert line.startswith(("c.yaml: ", "c.yaml:"))
        assert line.isprintable()
        assert len(line) <= 620


@CHECKED
@given(changes=st.dictionaries(KEYS, TREES, max_size=5), on_top_of=st.sampled_from([{}, VALID]))
@example(changes={"learning_rate": float("nan")}, on_top_of=VALID)
def test_any_mapping_is_an_experiment_or_a_config_error(changes, on_top_of):
    check_outcome(json.dumps(on_top_of | changes))


@CHECKED
@given(NEARLY_VALID)
def test_any_nearly_valid_mapping_is_an_experiment_or_a_config_error(changes):
    check_outcome(json.dumps(VALID | changes))


@CHECKED
@given(EDITS)
def test_any_edit_of_the_shipped_config_is_an_experiment_or_a_config_error(edits):
    text = SHIPPED
    for place, removed, piece in edits:
        text = text[:place] + piece + text[place + removed :]
    check_outcome(text)


@CHECKED
@given(st.binary(max_size=50) | st.text(max_size=50) | st.lists(PIECES | KEYS, max_size=30).map("".join))
@example("[" * 249_000)
def test_any_file_is_an_experiment_or_a_config_error(content):
    check_outcome(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
