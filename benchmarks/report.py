"""From measurements to medians, ratios and tables."""

import statistics
from collections.abc import Callable

MEAN = "geometric mean"
RATIOS = ("d/a", "d/b", "d/c")  # ours against each
Row = dict[str, str | float]

HEADINGS = {
    "training": "Training, samples/s",
    "evaluation": "Evaluation, samples/s",
    "tokenising": "Tokenising, samples/s",
    "process": "Whole process, seconds",
    "startup": "Whole process with one example (start-up), seconds",
    "steps": "One update, milliseconds",
}


def summary(measurements: list[dict]) -> dict[str, list[Row]]:
    """Return a table of medians over the repeats for each measured part, as rows by column."""
    tables = {}
    for part in HEADINGS:
        of_part = [entry for entry in measurements if entry["part"] == part]
        if of_part:
            tables[part] = TABLES[part](of_part)
    return tables


def _rates(measurements: list[dict]) -> list[Row]:
    """Return samples per second of each task and arm, and ratios."""
    rows = []
    for task in _values(measurements, "task"):
        of_task = [entry for entry in measurements if entry["task"] == task]
        rates = {
            arm: statistics.median(e["examples"] / e["seconds"] for e in of_task if e["arm"] == arm)
            for arm in _values(measurements, "arm")
        }
        rows.append({"task": task, **rates, **_ratios(rates)})
    return [*rows, _mean(rows)]


def _seconds(measurements: list[dict]) -> list[Row]:
    """Return the seconds of each task and arm by part, and ratios."""
    rows = []
    for task in _values(measurements, "task"):
        of_task = [entry for entry in measurements if entry["task"] == task]
        for what in of_task[0]["seconds"]:
            seconds = {
                arm: statistics.median(entry["seconds"][what] for entry in of_task if entry["arm"] == arm)
                for arm in _values(measurements, "arm")
            }
            rows.append({"task": task, "what": what, **seconds, **_ratios(seconds)})
    return rows


def _steps(measurements: list[dict]) -> list[Row]:
    """Return our milliseconds per update and the floor's, by model size."""
    rows = []
    for size in _values(measurements, "arm"):
        of_size = [entry for entry in measurements if entry["arm"] == size]
        medians = {
            name: statistics.median(entry[name] for entry in of_size)
            for name, value in of_size[0].items()
            if isinstance(value, float)
        }
        rows.append(
            {
                "size": size,
                "d": 1e3 * medians["seconds"],
                "floor": 1e3 * medians["floor_seconds"],
                "d/floor": medians["seconds"] / medians["floor_seconds"],
                "floor at real shapes": 1e3 * medians["floor_seconds_at_real_shapes"],
                "d/floor at real shapes": medians["seconds"] / medians["floor_seconds_at_real_shapes"],
                "tokens": medians["tokens_per_step"],
                "TFLOP/s": 1e-12 * medians["matmul_flops_per_second"],
                "GB/s": 1e-9 * medians["copied_bytes_per_second"],
            }
        )
    return rows


TABLES: dict[str, Callable[[list[dict]], list[Row]]] = {
    "training": _rates,
    "evaluation": _rates,
    "tokenising": _rates,
    "process": _seconds,
    "startup": _seconds,
    "steps": _steps,
}


def _values(measurements: list[dict], key: str) -> list[str]:
    """Return the distinct values of a key: arms by name, others in order."""
    values = list(dict.fromkeys(entry[key] for entry in measurements))
    return sorted(values) if key == "arm" else values


def _ratios(values: dict[str, float]) -> dict[str, float]:
    """Return the ratios of ours to each measured arm."""
    pairs = {ratio: ratio.split("/") for ratio in RATIOS}
    return {
        ratio: values[ours] / values[other]
        for ratio, (ours, other) in pairs.items()
        if ours in values and other in values
    }


def _mean(rows: list[Row]) -> Row:
    columns = [column for column in rows[0] if column != "task"]
    return {"task": MEAN, **{column: statistics.geometric_mean(row[column] for row in rows) for column in columns}}


def markdown(tables: dict[str, list[Row]]) -> str:
    """Return the tables as Markdown, with two decimals."""
    return "\n\n".join(f"### {HEADINGS[part]}\n\n{_table(rows)}" for part, rows in tables.items())


def _table(rows: list[Row]) -> str:
    columns = list(rows[0])
    aligned = ["---:" if isinstance(rows[0][column], float) else "---" for column in columns]
    lines = [columns, aligned, *([_shown(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: str | float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else value
