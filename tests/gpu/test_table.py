"""The table and the order of the GPU suite; these tests need no GPU."""

from pathlib import Path

from gpu_suite import ORDER
from gpu_table import LONGEST, Check, table

CHECKS = (
    Check("tests/gpu/test_a.py::test_it_attends[flash-bfloat16]", "passed", 0.24, "3e-3 | 4e-3"),
    Check("tests/gpu/test_a.py::test_it_trains", "FAILED", 12.0, "a\nb" + "c" * 999),
    Check("tests/gpu/test_b.py::test_two_meet", "skipped", 0.0, "one GPU"),
)


def test_the_order_names_every_file_of_the_suite():
    files = {file.stem for file in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).stem}
    assert sorted(ORDER) == sorted(files)


def test_the_table_is_markdown_with_one_line_per_check():
    lines = list(table({"torch": "2.14.1", "GPU 0": "H200"}, CHECKS))
    assert lines[:4] == ["| machine | |", "|---|---|", "| torch | 2.14.1 |", "| GPU 0 | H200 |"]
    assert "| it attends: flash, bfloat16 | passed | 0.2 | 3e-3 / 4e-3 |" in lines
    failed = next(line for line in lines if "it trains" in line)
    assert failed.startswith("| it trains | FAILED | 12.0 | a bccc")
    assert len(failed) < LONGEST + 50
    assert lines[-1] == "1 FAILED, 1 passed, 1 skipped; 12 s"
