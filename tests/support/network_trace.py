"""Find out which addresses processes contact, from a trace of their system calls."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

STRACE = ("strace", "-f", "--seccomp-bpf", "-e", "trace=%network,execve")
CALLS = {"connect", "sendto", "sendmsg", "sendmmsg"}
FAMILIES_OF_THE_MACHINE = {"AF_UNIX", "AF_NETLINK", "AF_UNSPEC"}
DNS = 53


@dataclass(frozen=True)
class Contact:
    """An address that a process passed to a system call, and the program that it ran."""

    program: str
    family: str
    address: str
    port: int | None = None

    def leaves_the_machine(self) -> bool:
        """Tell whether this is outside loopback. A name server on loopback counts, since it asks others."""
        if self.family in FAMILIES_OF_THE_MACHINE:
            return False
        return self.port == DNS or self.family not in ("AF_INET", "AF_INET6") or not _is_loopback(self.address)


def contacts(trace: Iterable[str]) -> Iterator[Contact]:
    """Yield every address in the lines of `strace -f -o`."""
    programs: dict[str, str] = {}
    for line in trace:
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match is None:
            continue
        process, call, arguments = match.groups()
        if call == "execve":
            programs[process] = PurePath(arguments.split('"')[1]).name
        elif call in CALLS:
            yield from _addresses(programs.get(process, "a thread, or a child"), call, arguments)


def listens(trace: Iterable[str]) -> list[str]:
    """Return the lines in which a process waits for others to connect."""
    return [line for line in trace if re.match(r"\d+ +listen\(", line)]


def _addresses(program: str, call: str, arguments: str) -> Iterator[Contact]:
    found = re.findall(r"\{sa_family=(AF_\w+)([^}]*)\}", arguments)
    if call == "connect" and not found:
        yield Contact(program, "unknown", arguments)
    for family, rest in found:
        address = re.search(r'(?:inet_addr\(|inet_pton\(AF_INET6, |sun_path=@?)"([^"]*)"', rest)
        port = re.search(r"sin6?_port=htons\((\d+)\)", rest)
        yield Contact(program, family, address[1] if address else rest, int(port[1]) if port else None)


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
