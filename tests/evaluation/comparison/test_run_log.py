"""Logs of runs, including interrupted ones."""

import json
import re

import pytest
from folders import write_log

from openrayzer.evaluation.comparison.run_log import read_run_log
from openrayzer.interfaces import InputError


def train(step, seconds):
    return {"step": step, "split": "train", "seconds": seconds}


def test_seconds_are_the_sum_over_all_steps(tmp_path):
    write_log(tmp_path, [train(10, 1.0), train(20, 3.0), train(25, 2.0)])
    log = read_run_log(tmp_path / "metrics.jsonl")
    assert log.seconds_until(10) == 10
    assert log.seconds_until(15) == 25  # half of the ten steps of the second line
    assert log.seconds_until(25) == 50
    assert log.seconds_until(0) == 0
    assert log.seconds_until(26) is None
    assert log.until(20).seconds_until(25) is None


def test_of_repeated_steps_the_last_counts_and_lost_ones_do_not(tmp_path):
    test = {"step": 20, "split": "test", "psnr": 1.0}
    lines = [train(10, 1.0), train(20, 1.0), test, train(30, 1.0), train(20, 5.0), test | {"psnr": 2.0}]
    write_log(tmp_path, lines)
    log = read_run_log(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in log.train] == [10, 20]
    assert log.seconds_until(20) == 60
    assert [line["psnr"] for line in log.test] == [2.0]


def test_an_incomplete_last_line_is_left_out_and_any_other_is_an_error(tmp_path):
    file = tmp_path / "metrics.jsonl"
    good = json.dumps(train(10, 1.0))
    file.write_text(f'{good}\n{{"step": 20, "spl')
    assert [line["step"] for line in read_run_log(file).train] == [10]
    file.write_text(f'{good}\n{{"step": 20, "spl\n{good}\n')
    with pytest.raises(InputError, match=re.escape("line 2 is not the record of a step")):
        read_run_log(file)


def test_lines_without_seconds_give_none(tmp_path):
    write_log(tmp_path, [{"step": 10, "split": "train"}, train(20, 1.0)])
    assert read_run_log(tmp_path / "metrics.jsonl").seconds_until(20) is None


def test_what_is_not_finite_is_none(tmp_path):
    write_log(tmp_path, [train(10, float("nan")), {"step": 10, "split": "test", "psnr": float("nan")}])
    log = read_run_log(tmp_path / "metrics.jsonl")
    assert log.test[0]["psnr"] is None
    assert log.seconds_until(10) is None
