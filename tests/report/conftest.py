import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("t2bench_tests_synthetic", Path(__file__).with_name("synthetic.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def synthetic():
    return _module


@pytest.fixture
def run_and_analysis(synthetic, tmp_path):
    return synthetic.make(tmp_path)
