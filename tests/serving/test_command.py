"""The command: what it offers, and one clear line for what it cannot do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import store
from flows.embedded import Embedded
from serving import write_keys
from serving.command import main, parser
from tests.live import live

TELLTALE = (sys.executable, "-m", "serving.command")


def telltale(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510  # its exit code is what we test
        [*TELLTALE, *args], env=os.environ | environ, capture_output=True, text=True, timeout=30
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What it said, having checked that it said it in one line and ended with 2."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_all_commands_are_offered() -> None:
    """The help names each command that there is."""
    said = telltale("--help").stdout
    for name in ["up", "run", "simulate", "replay", "backfill", "train", "bench", "doctor", "user", "keys"]:
        assert f"\n    {name} " in said


def test_the_command_is_quick_to_start() -> None:
    """Nothing heavy is imported before it is needed."""
    script = "import sys, serving.command; serving.command.parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "redis", "rich", "starlette", "onnxruntime", "sqlalchemy"} & set(loaded)


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """The line has the variable, what it takes and what came."""
    said = one_line(telltale("up", TELLTALE_HOME=str(tmp_path), TELLTALE_PORT="eighty"))
    assert "TELLTALE_PORT='eighty'" in said


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Neither the store nor anything else is started for a port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = one_line(telltale("up", TELLTALE_HOME=str(tmp_path), TELLTALE_PORT=port))
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "TELLTALE_PORT" in said
    assert list(tmp_path.iterdir()) == []


def test_no_redis_is_one_clear_line(tmp_path: Path) -> None:
    """A Redis that is not there is named by its address."""
    said = one_line(telltale("up", TELLTALE_HOME=str(tmp_path), TELLTALE_REDIS_URL="redis://127.0.0.1:1"))
    assert "no Redis or Valkey to be had at 127.0.0.1:1" in said


def test_a_home_that_runs_already_is_named(valkey: Embedded, free_port: int) -> None:
    """A second supervisor on one home would share its data: it is refused."""
    said = one_line(telltale("up", TELLTALE_HOME=str(valkey.home), TELLTALE_PORT=str(free_port)))
    assert "runs already" in said


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, free_port: int) -> None:
    """A file where the home should be is no place for data."""
    (tmp_path / "file").touch()
    said = one_line(telltale("up", TELLTALE_HOME=str(tmp_path / "file"), TELLTALE_PORT=str(free_port)))
    assert "TELLTALE_HOME" in said


@pytest.mark.parametrize("words", [("simulate",), ("replay", "file")])
def test_a_wall_clock_store_takes_no_history(client: redis.Redis, settings: Settings, words: tuple[str, ...]) -> None:
    """Simulate and replay bring their own clock."""
    store.create(client, Settings(clock="wall"))
    said = one_line(telltale(*words, TELLTALE_REDIS_URL=settings.redis_url))
    assert "TELLTALE_CLOCK=log" in said


def test_keys_are_made_and_listed(client: redis.Redis, settings: Settings) -> None:
    """A key that was made is listed with its organisation."""
    key = telltale("keys", "make", "acme", TELLTALE_REDIS_URL=settings.redis_url).stdout.strip()
    assert telltale("keys", TELLTALE_REDIS_URL=settings.redis_url).stdout == f"{key}  acme\n"
    assert write_keys.first(client) == (key, False)


def test_a_key_of_an_administrator_is_told_from_others(client: redis.Redis, settings: Settings) -> None:
    """The list says which may train and deploy models; the first key, which is posted with, may not."""
    first, _ = write_keys.first(client)
    key = telltale("keys", "make", "--admin", "ops", TELLTALE_REDIS_URL=settings.redis_url).stdout.strip()
    listed = telltale("keys", TELLTALE_REDIS_URL=settings.redis_url).stdout
    assert listed == f"{first}  main\n{key}  ops  admin\n"


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "a\nb"])
def test_an_organisation_with_an_impossible_name_gets_no_key(client: redis.Redis, name: str) -> None:
    """A slash would mix organisations up: `organisation/user` is an identity."""
    with pytest.raises(ValueError, match="organisation"):
        write_keys.make(client, name)
    assert write_keys.listed(client) == {}


def test_doctor_names_each_ill(client: redis.Redis, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that is not durable and has no key, a port that somebody has, models that are not there."""
    from serving.doctor import examine

    store.create(client, settings)
    client.config_set("appendfsync", "everysec")
    client.set(keys.position(3), b"1772366400000-0")
    client.xadd(keys.DEAD, {"reason": "none"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ill = Settings(home=settings.home, redis_url=settings.redis_url, port=port, models=str(settings.home))
        code = examine(ill)
    client.config_set("appendfsync", "always")
    said = capsys.readouterr().out
    assert code == 1
    for what in (
        "durable   appendfsync is everysec",
        "keys      no write key",
        "log       partition 3: state stands at 1772366400000-0, the log ends at 0-0",
        "dead      1 entries",
        f"port      cannot listen on 127.0.0.1:{port}",
    ):
        assert f"WRONG  {what}" in said
    assert said.count("WRONG  model") == 4
    assert "ok     python" in said


def test_doctor_asks_the_api_that_answers(
    client: redis.Redis, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """What /readyz finds is told; the API of another store, or of another home, is not taken for ours."""
    from serving.doctor import examine

    with live(settings) as api:
        assert examine(api.settings) == 1
        said = capsys.readouterr().out
        assert f"ok     port      {api.port}: an API answers" in said
        assert "WRONG  ready     no engine works partitions 0, 1, 2, 3" in said
        examine(Settings(home=settings.home / "elsewhere", port=api.port))
        said = capsys.readouterr().out
        assert "ok     store     no store runs" in said
        assert f"WRONG  port      {api.port} is taken by another Telltale" in said


def test_a_reader_who_leaves_is_no_fault(client: redis.Redis, settings: Settings) -> None:
    """`telltale ... | head` ends without a traceback."""
    write_keys.make(client, "acme")
    read, write = os.pipe()
    os.close(read)
    environ = os.environ | {"TELLTALE_REDIS_URL": settings.redis_url, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([*TELLTALE, "keys"], env=environ, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_unknown_options_are_refused_where_no_job_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Only jobs get what we do not know."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--nonsense"])
    assert ended.value.code == 2
    assert "--nonsense" in capsys.readouterr().err
    assert parser().parse_known_args(["train", "likely_to_sell", "--people", "9"])[1] == [
        "likely_to_sell",
        "--people",
        "9",
    ]
