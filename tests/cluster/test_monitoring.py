"""Dashboard and alerts of examples/monitoring, against Debian's Prometheus and a server that it scrapes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import launch
import others
import pytest
import yaml
from certificates import CA
from rawhttp import get, put, wait_until

MONITORING = launch.REPOSITORY / "examples" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool of prometheus is not installed"
)


def dashboard_expressions() -> list[str]:
    """Every query of the dashboard, as Grafana would send it."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    values = {"$__rate_interval": "1m", "$instance": ".*"}
    for name, value in values.items():
        found = [each.replace(name, value) for each in found]
    return found


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:fastws|process)_[a-z_]+|\bup\b", expression))


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str) -> Any:
        """Return the data of an answer of its API."""
        answer = json.loads(get(self._port, f"/api/v1/{path}").body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression is worth now."""
        found: list[dict[str, Any]] = self.ask(f"query?query={quote(expression)}")["result"]
        return found


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """Two that nobody else gets."""
    with others.free_port() as one, others.free_port() as other:
        yield one, other


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, authority: CA, ports: tuple[int, int]
) -> Iterator[launch.Process]:
    """A server that has all that there are metrics of."""
    directory = tmp_path_factory.mktemp("node")
    put(directory, {"root/page.txt": b"x" * 1000})
    (directory / "app.py").write_text(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'yes']\n"
    )
    pair = authority.pair("localhost", "127.0.0.1")
    secured, _ = ports
    lines = [
        *(
            "DocumentRoot root",
            "StatusPath /-/",
            "Application /app app:application",
            "ApplicationProcesses 1",
        ),
        *(f"Listen 127.0.0.1:{secured} tls", f"TLSCertificate {pair[0]} {pair[1]}", "PidFile pid"),
    ]
    (directory / "ws.conf").write_text("\n".join(lines) + "\n")
    with launch.running(directory, side="compiled") as server:
        ports = [int(each) for each in re.findall(r"127\.0\.0\.1:([0-9]+)", server.banner)]
        server.port = next(port for port in ports if port != secured)
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, node: launch.Process, ports: tuple[int, int]
) -> Iterator[Prometheus]:
    """Prometheus with the configuration of the example, but for the target and how often it is asked."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    directory = tmp_path_factory.mktemp("prometheus")
    shutil.copy(MONITORING / "alerts.yml", directory)
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{node.port}"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    _, port = ports
    words = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "output").open("wb") as output:
        program = subprocess.Popen(
            [*words, "--storage.tsdb.path=data"], cwd=directory, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: launch.answers(port) or program.poll() is not None, "Prometheus")
        assert program.poll() is None, (directory / "output").read_text()
        wait_until(lambda: get(port, "/-/ready").status == 200, "Prometheus")
        running = Prometheus(port)
        get(node.port, "/page.txt")
        get(node.port, "/app")
        wait_until(lambda: running.query("fastws_requests_total > 0"), "a scrape")
        yield running
    finally:
        program.terminate()
        program.wait(launch.END_S)


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    for words in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]):
        done = subprocess.run(
            ["promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_every_metric_that_is_named_is_there(prometheus: Prometheus) -> None:
    there = set(prometheus.ask("label/__name__/values"))
    expressions = [*dashboard_expressions(), *[rule["expr"] for rule in alert_rules()]]
    named = set().union(*map(names_in, expressions))
    assert len(named) > 20
    assert named <= there


@needs_prometheus
def test_every_query_of_the_dashboard_is_understood_and_most_show_something(prometheus: Prometheus) -> None:
    assert len(dashboard_expressions()) > 25
    # What is over a rate that is 0 / 0 is a value too; a rate needs two scrapes.
    waiting = set(dashboard_expressions())

    def all_show_something() -> bool:
        waiting.difference_update([each for each in waiting if prometheus.query(each)])
        return not {each for each in waiting if "config_generation" not in each}

    wait_until(all_show_something, f"a value of each of {waiting}")
    labels = {panel["title"] for panel in DASHBOARD["panels"]}
    assert len(labels) == len(DASHBOARD["panels"])


@needs_prometheus
def test_every_alert_is_evaluated_and_none_fires_without_reason(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), "evaluation")
    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in alert_rules()}
    # The certificate of the test lives long enough; nothing else has happened.
    assert [rule["name"] for rule in rules() if rule["state"] != "inactive"] == []


@needs_prometheus
def test_reload_that_fails_is_an_alert(prometheus: Prometheus, node: launch.Process) -> None:
    def state() -> str:
        groups = prometheus.ask("rules")["groups"]
        return next(r["state"] for g in groups for r in g["rules"] if r["name"] == "FastwsReloadFailed")

    path = Path(f"/proc/{node.popen.pid}/cwd/ws.conf")
    good = path.read_text()
    path.write_text(good + "Nonsense\n")
    node.signal(signal.SIGHUP)
    wait_until(lambda: state() == "pending", "the alert")
    path.write_text(good)
    node.signal(signal.SIGHUP)
    wait_until(lambda: state() == "inactive", "the end of the alert")


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    one = '{instance="a", job="fastws"'
    series = {
        f"fastws_config_last_reload_successful{one}}}": "0x30",
        f'fastws_tls_certificate_expiry_timestamp_seconds{one}, certificate="c.pem"}}': "864000x120",
        f'fastws_listener_queue{one}, address="b"}}': "3000x30",
        f'fastws_listener_queue_limit{one}, address="b"}}': "4096x30",
        f'fastws_requests_total{one}, class="5xx"}}': "0+10x30",
        f'fastws_requests_total{one}, class="2xx"}}': "0+100x30",
        f"up{one}}}": "0x30",
        f'fastws_build_info{one}, version="1", parser="compiled"}}': "1x120",
        'fastws_build_info{instance="b", job="fastws", version="2", parser="compiled"}': "1x120",
    }
    expected = {
        "15m": {"FastwsReloadFailed", "FastwsQueueFills", "FastwsServerErrors", "FastwsDown"},
        "90m": {"FastwsCertificateExpires", "FastwsVersionsDiffer"},
    }
    names = [rule["alert"] for rule in alert_rules()]
    queries = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": 1 if name in firing else 0}],
        }
        for at, firing in expected.items()
        for name in names
        if any(name in each for each in expected.values()) and (at == "15m" or name in firing)
    ]
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    tests = [{"interval": "1m", "input_series": inputs, "promql_expr_test": queries}]
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
