"""The run in MLflow, where MLFLOW_TRACKING_URI says that there is one."""

from __future__ import annotations

import os
import sys

from training.publish import Published

URI = "MLFLOW_TRACKING_URI"
_MISSING = f"{URI} is set, but mlflow is not installed, so the run is not logged there: pip install 'telltale[mlflow]'"


def log(of: Published) -> None:
    """Parameters, metrics on rows kept aside, state and the version's files, under an experiment named as the model.

    A tracking server that cannot be had is told on stderr: the version stands all the same.
    """
    if not os.environ.get(URI):
        return
    try:
        import mlflow
    except ImportError:
        print(_MISSING, file=sys.stderr)
        return
    try:
        mlflow.set_experiment(of.metadata.name)
        with mlflow.start_run(run_name=of.metadata.version):
            mlflow.log_params({_spelled(name): value for name, value in of.metadata.trained_on.items()})
            mlflow.log_metrics(_metrics(of))
            mlflow.set_tags({"state": of.state, "why": of.why, "simulated": of.metadata.simulated})
            mlflow.log_artifacts(str(of.place), of.metadata.version)
    except (mlflow.exceptions.MlflowException, OSError, ImportError) as error:
        print(f"{URI}={os.environ[URI]}: the run is not logged there: {error}", file=sys.stderr)


def _metrics(of: Published) -> dict[str, float]:
    return {_spelled(f"{who}/{name}"): value for who, row in of.metadata.metrics.items() for name, value in row.items()}


def _spelled(name: str) -> str:
    """In the letters that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else " " for letter in name)
