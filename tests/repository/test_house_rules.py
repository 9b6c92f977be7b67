"""The rules hold, and each of them can bite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import house_rules

BAD = [
    "import pickle",
    "from joblib import load",
    "import torch\ntorch.load('x')",
    "import torch\ntorch.export.load('x')",
    "import numpy as np\nnp.load('x')",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import yaml\nyaml.load('x')",
    "import os\nHOME = os.environ['HOME']",
    "import os\nclass A:\n    x = os.getenv('X')",
    "PATH = '/home/" + "someone/data'",
]
GOOD = [
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import os\ndef f():\n    return os.environ['HOME']",
    "import yaml\nyaml.safe_load('x')",
    "URL = '/v1/home/list'",
]


@pytest.mark.parametrize("text", BAD)
def test_each_rule_bites(text: str) -> None:
    assert list(house_rules.problems(Path("nidim/x.py"), text))


@pytest.mark.parametrize("text", GOOD)
def test_good_code_passes(text: str) -> None:
    assert not list(house_rules.problems(Path("nidim/x.py"), text))


def test_bytes_of_ones_own_are_loaded_in_one_place() -> None:
    text = "import torch\ntorch.export.load('x')\ntorch.load('x')"
    found = list(house_rules.problems(Path("nidim/program_export.py"), text))
    assert found == ["nidim/program_export.py:3: call of torch.load"]


def test_the_repository_keeps_them() -> None:
    found = [
        problem
        for path in house_rules.tracked()
        for problem in house_rules.problems(path, (house_rules.ROOT / path).read_text())
    ]
    assert found == []
