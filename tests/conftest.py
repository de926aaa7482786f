import os

import torch


def pytest_configure(config):
    """Every pytest-xdist worker has its share of the cores: two that take all of them wait for each other's threads."""
    if hasattr(config, "workerinput"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // config.workerinput["workercount"]))
