"""Where and how the threads of a process may run."""

import os


def tasks(pid):
    """Its threads' numbers."""
    return [int(task) for task in os.listdir(f"/proc/{pid}/task")]


def pin(pid, cpus):
    """Every thread of it; threads made later inherit."""
    for task in tasks(pid):
        os.sched_setaffinity(task, cpus)


def is_at(pid, cpus):
    """One of its threads may run there and nowhere else."""
    return any(os.sched_getaffinity(task) == cpus for task in tasks(pid))
