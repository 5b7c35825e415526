"""Snakemake plans tens of thousands of jobs in half the time (seen in version 9.27.1, by benchmarks/scale.py).

Nothing of a plan is another: what is made quicker is looked up or computed again for each job, with the same answer.
Each change looks first whether Snakemake still has the shape that it was written for, and else leaves it alone.
"""

import gc
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType


def plan_quickly() -> None:
    """Apply every change below, from here on."""
    rest_garbage_collector()
    remember_parameters_of_functions()
    look_up_outputs_by_name()
    format_commands_once()
    read_flags_quickly()


def rest_garbage_collector() -> None:
    """Let the garbage collector not look through the growing plan, over and over; there is next to no garbage in it."""
    gc.disable()


def wake_garbage_collector() -> None:
    """Let it work again on what is made from here on, in a head that lives for days."""
    gc.freeze()
    gc.enable()


def remember_parameters_of_functions() -> None:
    """Let the parameters of a rule's functions be looked up once, not several times for each job."""
    original = getattr(sys.modules.get("snakemake.common"), "get_function_params", None)
    if not inspect.isfunction(original) or tuple(inspect.signature(original).parameters) != ("func",):
        return
    remembered: dict[tuple[type, FunctionType], Mapping] = {}

    def get_function_params(func: Callable) -> Mapping[str, inspect.Parameter]:
        plain = getattr(func, "__func__", func)
        # Others may be made for one call only.
        if type(func) not in (FunctionType, MethodType) or type(plain) is not FunctionType:
            return original(func)
        key = (type(func), plain)
        if key not in remembered:
            remembered[key] = original(func)
        return remembered[key]

    _replace_everywhere("get_function_params", original, get_function_params)


def look_up_outputs_by_name() -> None:
    """Let the rule of an output without wildcards be found by its name, not among thousands of like beginnings."""
    original = getattr(sys.modules.get("snakemake.output_index"), "OutputIndex", None)
    if original is None or not {"match", "match_producers"} <= vars(original).keys():
        return
    _replace_everywhere("OutputIndex", original, OutputsByName)


def format_commands_once() -> None:
    """Let the shell command of a job that is shown be formatted once, not three times."""
    job_class = getattr(sys.modules.get("snakemake.jobs"), "Job", None)
    show, command = (getattr(job_class, name, None) for name in ("log_info", "shellcmd"))
    if not inspect.isfunction(show) or not isinstance(command, property):
        return
    shown: dict[int, str | None] = {}  # the job that is just being shown, and its command

    def log_info(job, *arguments, **options):
        shown.clear()
        shown[id(job)] = command.fget(job)
        try:
            show(job, *arguments, **options)
        finally:
            shown.clear()

    def shellcmd(job) -> str | None:
        return shown[id(job)] if id(job) in shown else command.fget(job)

    job_class.log_info = log_info
    job_class.shellcmd = property(shellcmd, doc=command.__doc__)


def read_flags_quickly() -> None:
    """Let a file's flags (temp, ancient, ...) be read without asking, millions of times, whether it can have any."""
    io = sys.modules.get("snakemake.io")
    original = getattr(io, "is_flagged", None)
    annotated = getattr(io, "AnnotatedStringInterface", None)
    if annotated is None or not inspect.isfunction(original) or "is_flagged" not in vars(annotated):
        return
    can_have_flags: dict[type, bool] = {}

    def is_flagged(value: object, flag: str) -> bool:
        kind = type(value)
        if kind not in can_have_flags:
            # A kind with an answer of its own is asked.
            can_have_flags[kind] = issubclass(kind, annotated) and kind.is_flagged is annotated.is_flagged
        if not can_have_flags[kind]:
            return original(value, flag)
        flags = value.flags
        return flag in flags and bool(flags[flag])

    _replace_everywhere("is_flagged", original, is_flagged)


class OutputsByName:
    """Which rules may make, and which do make, a file: Snakemake's OutputIndex."""

    def __init__(self, rules: list):
        self._by_name = defaultdict(set)
        self._by_beginning = defaultdict(list)
        for rule in rules:
            for product in rule.products():
                if product.contains_wildcard():
                    end = str(product.constant_suffix())
                    self._by_beginning[str(product.constant_prefix())].append((rule, end))
                else:
                    self._by_name[str(product)].add(rule)
        self._lengths = sorted({len(beginning) for beginning in self._by_beginning})

    def match(self, targetfile: str) -> set:
        """Return the rules that may make a file, as far as their outputs' beginnings and ends tell."""
        name = str(targetfile)  # not a file of Snakemake's, which has a hash of its own
        return self._by_name.get(name, set()) | self._with_wildcards(name)

    def match_producers(self, targetfile: str) -> set:
        """Return the rules that make a file."""
        name = str(targetfile)
        producers = {rule for rule in self._with_wildcards(name) if rule.is_producer(name)}
        return self._by_name.get(name, set()) | producers

    def _with_wildcards(self, name: str) -> set:
        return {
            rule
            for length in self._lengths
            for rule, end in self._by_beginning.get(name[:length], ())
            if name.endswith(end)
        }


def _replace_everywhere(name: str, old: object, new: object) -> None:
    """Let all of Snakemake's modules, which import by name, have another object under a name."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "snakemake" and getattr(module, name, None) is old:
            setattr(module, name, new)
