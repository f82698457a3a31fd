"""PyFlink: HOP windows of 24 h every hour and TUMBLE ones of 1 h over JSON lines, joined, scored by a pandas UDF.

`python in_flink.py LINES MODEL`, in an environment that has apache-flink, and Java beside it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd
from model import Scorer, tell
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

TYPES = [f"event_{i:02d}" for i in range(12)]


class Score(ScalarFunction):
    """Runs in Flink's Python worker, a batch of rows at a time."""

    def __init__(self, model: str) -> None:
        self._model = model

    def open(self, function_context: FunctionContext) -> None:
        self._scorer = Scorer(Path(self._model))

    def eval(self, *counts: pd.Series) -> pd.Series:
        return pd.Series(self._scorer.scores(pd.concat(counts, axis=1).to_numpy("float32")))


def counted(span: str, window: str) -> str:
    counts = ", ".join(f"COUNT(*) FILTER (WHERE event = '{name}') AS {name}_{span}" for name in TYPES)
    columns = "`user`, window_start, window_end"
    return f"SELECT {columns}, {counts} FROM TABLE({window}) GROUP BY {columns}"


def main(lines: Path, model: Path) -> None:
    with lines.open() as file:
        n = sum(1 for _ in file)
    env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in {
        "parallelism.default": "2",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "table.exec.mini-batch.enabled": "false",
    }.items():
        env.get_config().set(name, value)
    score = udf(Score(str(model)), result_type=DataTypes.FLOAT(), func_type="pandas")
    env.create_temporary_system_function("score", score)
    env.execute_sql(
        f"""CREATE TABLE lines (`user` STRING, event STRING, ts BIGINT, moment AS TO_TIMESTAMP_LTZ(ts, 3),
        WATERMARK FOR moment AS moment - INTERVAL '6' HOUR)
        WITH ('connector' = 'filesystem', 'path' = '{lines}', 'format' = 'json')"""
    )
    env.execute_sql("CREATE TABLE nothing (score FLOAT) WITH ('connector' = 'blackhole')")
    day = counted("24h", "HOP(TABLE lines, DESCRIPTOR(moment), INTERVAL '1' HOUR, INTERVAL '24' HOUR)")
    hour = counted("1h", "TUMBLE(TABLE lines, DESCRIPTOR(moment), INTERVAL '1' HOUR)")
    features = ", ".join(
        [*(f"CAST(COALESCE(h.{t}_1h, 0) AS FLOAT)" for t in TYPES), *(f"CAST(d.{t}_24h AS FLOAT)" for t in TYPES)]
    )
    began = time.perf_counter()
    env.execute_sql(
        f"""INSERT INTO nothing SELECT score({features}) FROM ({day}) d LEFT JOIN ({hour}) h
        ON d.`user` = h.`user` AND d.window_end = h.window_end"""
    ).wait()
    tell(n, time.perf_counter() - began, Scorer(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
