"""What one puts together: FastAPI, Feast's SDK over its Redis online store, and XGBoost, one process under uvicorn.

`python in_fastapi.py PORT REPO BOOSTER INPUTS PREFIX`, in an environment that has them. REPO: of Feast, applied.
INPUTS: `view:feature` of each input in order, commas between. PREFIX: of an id to make it the entity's. It answers
`POST /score` of `{"id": ...}` as ours does. Feast's asynchronous lookup is no faster.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import uvicorn
import xgboost
from fastapi import FastAPI
from feast import FeatureStore
from pydantic import BaseModel

JOIN_KEY = "user_id"


class Asked(BaseModel):
    id: str


class Answer(BaseModel):
    id: str
    raw: float


def app(repo: str, booster: str, inputs: list[str], prefix: str) -> FastAPI:
    store, model, made = FeatureStore(repo_path=repo), xgboost.Booster(), FastAPI()
    model.load_model(booster)
    model.set_param({"nthread": 1})
    names = [name.partition(":")[2] for name in inputs]

    @made.get("/health")
    async def health() -> str:
        return "ok"

    @made.post("/score")
    async def score(asked: Asked) -> Answer:
        found = store.get_online_features(inputs, [{JOIN_KEY: prefix + asked.id}]).to_dict()
        row = np.array([[found[name][0] or 0.0 for name in names]], np.float32)
        return Answer(id=asked.id, raw=float(model.inplace_predict(row)[0]))

    return made


def main(port: str, repo: str, booster: str, inputs: str, prefix: str) -> None:
    warnings.simplefilter("ignore")  # Feast's own
    made = app(repo, booster, inputs.split(","), prefix)
    uvicorn.run(made, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
