"""One thread, no network, and readable assertions in the shared tester."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

pytest.register_assert_rewrite("tester")
torch.set_num_threads(1)
