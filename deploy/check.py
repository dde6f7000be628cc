"""Checks deploy/: Marathon app definitions, systemd units, Dockerfiles and shell scripts. `make check-deploy`.

Marathon definitions must fit our own schema.json and, where Marathon's published RAML types lie beside the
checkout (../shared/marathon, or the folder that MR_MARATHON_RAML names), those too. Each checker must also refuse
a few broken inputs, or it would prove nothing. Ends with "N passed, N failed".
"""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "deploy" / "marathon"))
import raml  # noqa: E402  (the line above makes it importable)

BUILD = TOP / os.environ.get("MR_BUILD", "build")
PROGRAMS = ("mr-controller", "mr-proxy", "mrctl")
HARDENING = ("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces",
             "MemoryDenyWriteExecute", "SystemCallFilter", "CapabilityBoundingSet", "RestrictAddressFamilies")
UNIT_KEYS = {
    "Unit": {"Description", "Documentation", "Wants", "After", "StartLimitIntervalSec"},
    "Service": {"Type", "User", "Group", "EnvironmentFile", "ExecStart", "Restart", "RestartSec", "KillMode",
                "TimeoutStopSec", "LimitNOFILE", "OOMScoreAdjust", "CacheDirectory", "AmbientCapabilities",
                "ProtectProc", "ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
                "ProtectKernelTunables", "ProtectControlGroups", "RestrictRealtime", "RestrictSUIDSGID", "RemoveIPC",
                "LockPersonality", "SystemCallArchitectures", "SystemCallErrorNumber", "UMask", *HARDENING},
    "Install": {"WantedBy"},
}

results = {"passed": 0, "failed": 0}


def report(what, problems):
    """Counts and prints one check; problems is the list of what is wrong."""
    results["failed" if problems else "passed"] += 1
    print(("FAIL  " if problems else "ok    ") + what)
    for problem in problems:
        print(f"      {problem}")


def read(path):
    return (TOP / path).read_text(encoding="utf-8")


def documented_options(program):
    """The options of a program, from its table in README: {"zk", "id", …}."""
    section = re.search(rf"^### {program}\n(.*?)(?=^##|\Z)", read("README.md"), re.M | re.S)
    return set(re.findall(r"^\| `(?:-\w, )?--([a-z0-9-]+)", section.group(1), re.M)) if section else set()


def option_problems(program, words, variables):
    """Options (--x in words) and variables (MR_X) that the program does not have."""
    known = documented_options(program)
    used = set(re.findall(r"--([a-z0-9-]+)", words))
    used |= {name[3:].lower().replace("_", "-") for name in variables}
    return [f"{program} has no option --{name}" for name in sorted(used - known)]


def schema_problems(definition):
    schema = json.loads(read("deploy/marathon/schema.json"))
    errors = jsonschema.Draft7Validator(schema).iter_errors(definition)
    return [f"{'/'.join(map(str, e.absolute_path)) or '.'}: {e.message}" for e in errors]


def broken_variants(definition):
    """(what was broken, the broken definition) for things that a checker must notice."""
    def changed(what, change):
        broken = copy.deepcopy(definition)
        change(broken)
        return what, broken

    return [
        changed("a number as text", lambda d: d.update(taskKillGracePeriodSeconds="10")),
        changed("a misspelt property", lambda d: d.update(taskKillGracePeriod=10)),
        changed("an unknown health check protocol", lambda d: d["healthChecks"][0].update(protocol="ICMP")),
        changed("a constraint of one word", lambda d: d.update(constraints=[["hostname"]])),
        changed("half an upgrade strategy", lambda d: d["upgradeStrategy"].pop("maximumOverCapacity")),
        changed("a path id with capitals", lambda d: d.update(id="/Mr-Redis/Controller")),
    ]


def check_marathon():
    folder = Path(os.environ.get("MR_MARATHON_RAML", TOP.parent / "shared" / "marathon"))
    types = raml.Libraries(folder) if (folder / "app.raml").exists() else None
    if types is None:
        print(f"note  Marathon's RAML types are not at {folder}: checked against our own schema only")
    for name in ("controller", "proxy"):
        definition = json.loads(read(f"deploy/marathon/{name}.json"))
        label = f"deploy/marathon/{name}.json"
        program = definition["cmd"].split()[1]
        report(f"{label}: schema.json", schema_problems(definition))
        report(f"{label}: options", option_problems(program, definition["cmd"], definition["env"]))
        ports = {int(n) for n in re.findall(r"\$PORT(\d)", definition["cmd"])}
        report(f"{label}: every port is used",
               [] if ports == set(range(len(definition["portDefinitions"]))) else [f"the command uses {ports}"])
        if types:
            report(f"{label}: Marathon's types", types.check(definition, "app.raml", "App"))
        for what, broken in broken_variants(definition):
            missed = [] if schema_problems(broken) else ["schema.json accepts it"]
            if types and not types.check(broken, "app.raml", "App"):
                missed.append("the RAML checker accepts it")
            report(f"{label}: {what} is refused", missed)


def unit_problems(text):
    section, problems, seen = None, [], set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if re.fullmatch(r"\[\w+\]", line):
            section = line[1:-1]
            if section not in UNIT_KEYS:
                problems.append(f"line {number}: no such section: {line}")
        elif not re.fullmatch(r"[A-Za-z]+=.*", line):
            problems.append(f"line {number}: neither a section nor Key=value: {line}")
        else:
            key = line.split("=", 1)[0]
            seen.add(key)
            if key not in UNIT_KEYS.get(section, ()):
                problems.append(f"line {number}: {key} is not known in [{section}]")
    problems += [f"lacks {key}" for key in ("Description", "ExecStart", "Restart", "WantedBy", *HARDENING)
                 if key not in seen]
    return problems


def check_systemd():
    for path in sorted(Path(TOP / "deploy/systemd").glob("*.service")):
        text = path.read_text(encoding="utf-8")
        label = f"deploy/systemd/{path.name}"
        report(f"{label}: syntax and hardening", unit_problems(text))
        command = re.search(r"^ExecStart=(\S+)(.*)$", text, re.M)
        program = Path(command.group(1)).name
        problems = option_problems(program, command.group(2), [])
        if program != path.stem or program not in PROGRAMS:
            problems.append(f"starts {program}")
        report(f"{label}: command", problems)
        broken = text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes")
        report(f"{label}: a misspelt key is refused", [] if unit_problems(broken) else ["accepted"])
    variables = re.findall(r"^#?(MR_[A-Z_]+)=", read("deploy/systemd/mr-redis.env"), re.M)
    # The file is shared: a variable must mean something to one of the two at least.
    known = documented_options("mr-controller") | documented_options("mr-proxy")
    report("deploy/systemd/mr-redis.env: variables",
           [f"no service reads {v}" for v in variables if v[3:].lower().replace("_", "-") not in known])


def docker_problems(text):
    problems, stages, stage = [], set(), None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "FROM":
            stage = words[3] if len(words) == 4 and words[2] == "AS" else "final"
            stages.add(stage)
            if words[1] != "debian:bookworm-slim":
                problems.append(f"stands on {words[1]}")
        elif words[0] == "COPY":
            if words[1].startswith("--from="):
                if words[1][7:] not in stages:
                    problems.append(f"copies from the unknown stage {words[1][7:]}")
                continue
            problems += [f"COPY of {source}, which is not there" for source in words[1:-1]
                         if not (TOP / source).exists()]
        elif words[0] not in ("RUN", "WORKDIR", "USER", "STOPSIGNAL", "ENTRYPOINT"):
            problems.append(f"unknown instruction {words[0]}")
    final = text.split("\nFROM ")[-1]
    problems += [f"the final stage has no {word}" for word in ("USER", "ENTRYPOINT") if f"\n{word} " not in final]
    return problems


def runtime_packages(binary):
    """The Debian packages that a program's shared libraries come from, those of every Debian system excepted."""
    dynamic = subprocess.run(["objdump", "-p", binary], capture_output=True, text=True, check=True).stdout
    # A machine may have the same library for other architectures too (libc6-i386).
    here = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    packages = set()
    for library in re.findall(r"^ +NEEDED +(\S+)", dynamic, re.M):
        owner = subprocess.run(["dpkg-query", "-S", f"*/{here}/{library}"], capture_output=True, text=True,
                               check=True).stdout
        packages |= {line.split(":", 1)[0] for line in owner.splitlines()}
    return packages - {"libc6", "libgcc-s1"}


def check_docker():
    for program, name in zip(PROGRAMS, ("controller", "proxy", "mrctl")):
        text = read(f"deploy/docker/Dockerfile.{name}")
        problems = docker_problems(text)
        if f'ENTRYPOINT ["/usr/local/bin/{program}"]' not in text:
            problems.append(f"does not start {program}")
        binary = BUILD / "bin" / program
        if binary.exists():
            final = set(text.split("\nFROM ")[-1].split())
            problems += [f"the final stage lacks {p}" for p in sorted(runtime_packages(binary) - final)]
        report(f"deploy/docker/Dockerfile.{name}", problems)
    broken = read("deploy/docker/Dockerfile.mrctl").replace("COPY mrctl mrctl", "COPY ctl mrctl")
    report("deploy/docker: a missing source is refused", [] if docker_problems(broken) else ["accepted"])


def check_scripts():
    scripts = [p for p in sorted((TOP / "deploy").rglob("*.sh"))]
    scripts += [p for p in sorted((TOP / ".ci").iterdir()) if p.is_file() and "bash" in p.read_text().split("\n", 1)[0]]
    for path in scripts:
        run = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        problems = run.stderr.splitlines()
        if "set -euo pipefail" not in path.read_text(encoding="utf-8"):
            problems.append("does not stop at the first error (set -euo pipefail)")
        if not os.access(path, os.X_OK):
            problems.append("is not executable")
        report(f"{path.relative_to(TOP)}", problems)


def check_demo():
    """The demo and the benches are built where .ci/deps installed what it calls `run`: without the tests' library."""
    benches = sorted(path.stem for path in (TOP / "tests" / "bench").glob("*.c"))
    targets = [f"build/tests/bench/{bench}" for bench in benches]
    run = subprocess.run(["make", "-nB", "BUILD=build", *targets], cwd=TOP, capture_output=True, text=True, check=False)
    sources = sorted(set(re.findall(r"-c -o \S+ (\S+\.c)$", run.stdout, re.MULTILINE)))
    problems = [f"{path} includes cmocka.h" for path in sources if "<cmocka.h>" in read(path)]
    if not {f"tests/bench/{bench}.c" for bench in benches} <= set(sources):
        problems.append(f"make -nB does not tell what it compiles: {run.stderr.strip()}")
    report("make demo, make bench: need no library of the tests", problems)


if __name__ == "__main__":
    check_demo()
    check_marathon()
    check_systemd()
    check_docker()
    check_scripts()
    print(f"{results['passed']} passed, {results['failed']} failed")
    sys.exit(1 if results["failed"] else 0)
