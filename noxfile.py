"""Sessions: what is checked, and how. ``nox -s tests`` is the one that decides."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nox

ROOT = Path(__file__).parent
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
WHEELS = ROOT / "dist"
SITE = ROOT / "build" / "site"
RESULTS = ROOT / ".nox" / "results"
COVERAGE = RESULTS / "coverage.json"
METRICS = "prometheus-client>=0.20"  # of the extra fluxburst[metrics]
TEST_TOOLS = ["pytest>=8.1", "pytest-xdist>=3.5", "hypothesis>=6.100", METRICS]
COVERAGE_TOOLS = ["pytest-cov>=7"]
LINT_TOOLS = ["ruff==0.17.6", "import-linter==2.17"]
SITE_TOOLS = ["sphinx>=9", "myst-parser>=5", "furo>=2025.12.19"]
OF_PLUGINS = [
    "cryptography>=42",
    "google-cloud-billing>=1.21.0",
    "google-cloud-compute>=1.57.0",
    "google-cloud-container>=2.67.0",
    "lightkube>=1.0.1",
    "types-PyYAML",
    "types-boto3[ec2,eks,iam,pricing,sts]>=1.43",
    "types-grpcio",
    "types-grpcio-status",
    "types-protobuf",
    "types-requests",
]
"""What plugins and their tests import, with types."""
TYPING_TOOLS = ["mypy==2.4.1", *TEST_TOOLS, "nox", "tomli", "types-psutil", *OF_PLUGINS]

nox.options.sessions = ["lint", "typing", "tests"]
nox.options.reuse_existing_virtualenvs = True


def _supported_pythons() -> list[str]:
    """Read the supported Pythons from the classifiers of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def _complete_path() -> None:
    """Let everything on the machine be found.

    The Pythons that pyenv has installed come first, since its shims only answer for some; daemons
    come last, in directories that are often off the PATH of ordinary users.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pythons = [str(path) for path in sorted(root.glob("versions/*/bin"))]
    daemons = ["/usr/local/sbin", "/usr/sbin", "/sbin"]
    os.environ["PATH"] = os.pathsep.join([*pythons, os.environ["PATH"], *daemons])


def _works(python: str) -> bool:
    command = shutil.which(f"python{python}")
    if command is None:
        return False
    return subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode == 0


def _version_of(programs: list[str], option: str, pattern: str) -> str:
    """Return the version that the first of the programs tells, empty unless all are on PATH."""
    if not all(map(shutil.which, programs)):
        return ""
    done = subprocess.run([programs[0], option], capture_output=True, text=True, check=False)
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else ""


def _api_server() -> str:
    """Return the version of kube-apiserver, empty unless KUBEBUILDER_ASSETS has it and etcd."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", ROOT / "nowhere"))
    programs = [str(folder / "kube-apiserver"), str(folder / "etcd")]
    return _version_of(programs, "--version", r"Kubernetes (\S+)")


def _beside_flux(file: str) -> str:
    """Return the prefix of a Flux that has a file; empty where none has.

    FLUXBURST_TEST_FLUX may name one with what centres have beside Flux, for the tests of that.
    """
    there = shutil.which("flux")
    on_path = Path(there).resolve().parents[1] if there else None
    for prefix in (os.environ.get("FLUXBURST_TEST_FLUX"), on_path):
        if FLUX and prefix and (Path(prefix) / file).is_file():
            return f"in {prefix}"
    return ""


_complete_path()
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start many processes that import the same
FLUX = _version_of(["flux"], "version", r"libflux-core:\s*(\S+)")
PARTS = {
    "Flux": FLUX,
    "Fluxion": _beside_flux("lib/flux/modules/sched-fluxion-qmanager.so"),
    "flux-accounting": _beside_flux("lib/flux/job-manager/plugins/mf_priority.so"),
    "flux-security": _beside_flux("libexec/flux/flux-imp"),
    "kube-apiserver": _api_server(),
    "Slurm": _version_of(["slurmctld", "slurmd", "munged", "srun"], "-V", r"(\d\S+)"),
    "sshd": _version_of(["ssh", "sshd"], "-V", r"OpenSSH_([^\s,]+)"),
}
MAIN_PATHS = [
    f"tests/test_{name}.py"
    for name in ("bursting", "cli", "config", "ledger", "manager", "parameters", "planning")
]
NEEDS_PARTS = "accounting or flux or fluxion or guests or kubernetes or slurm or ssh"
"""The marks of tests that need one of these."""

WITHOUT_PARTS = f"not ({NEEDS_PARTS} or long or soak)"
SUPPORTED = _supported_pythons()
PRESENT = [python for python in SUPPORTED if _works(python)] or [sys.executable]
NEWEST = PRESENT[-1]


@functools.cache
def _wheels() -> dict[str, str]:
    """Build a wheel of each distribution, once a run; return their paths by name."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    shutil.rmtree(RESULTS, ignore_errors=True)
    for source in [ROOT, *(ROOT / "plugins" / name for name in PLUGINS)]:
        command = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(WHEELS), str(source)]
        subprocess.run([sys.executable, "-m", *command], check=True)
    return {wheel.name.split("-")[0]: str(wheel) for wheel in sorted(WHEELS.glob("*.whl"))}


def _wheel_of(plugin: str) -> str:
    return _wheels()[f"fluxburst_{plugin.replace('-', '_')}"]


def _pytest(
    session: nox.Session,
    *paths: str,
    marks: str = "",
    live: bool = False,
    coverage: bool = False,
) -> None:
    """Run tests, keep their counts for the summary, and have it printed at the end.

    With live parts they mostly wait, and two at a time keep each core busy. Coverage is measured in
    the processes that run the tests: in each that tests start, it would take a tenth of a second.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^0-9A-Za-z.]+", "-", f"{session.name} {marks}").strip("-")
    file = RESULTS / f"{name}.xml"
    file.unlink(missing_ok=True)
    session.notify("summary")
    workers = str(2 * (os.cpu_count() or 1)) if live else "auto"
    parallel = ["-n", workers, "--dist", "loadfile"]
    chosen = [*paths, "-m", marks] if marks else paths
    arguments = ["-q", *parallel, f"--junitxml={file}", *chosen, *session.posargs]
    environment = {"BUILT_WHEELS": str(WHEELS), "BUILT_SITE": str(SITE)}
    if coverage:
        arguments += ["--cov", f"--cov-report=json:{COVERAGE}"]
        if NEWEST in SUPPORTED and _in_order(NEWEST) >= [3, 12]:
            environment["COVERAGE_CORE"] = "sysmon"  # which costs next to nothing
    session.run("pytest", *arguments, env=environment)


def _with_needed(plugins: list[str]) -> list[str]:
    """Return plugins with those of this repository that they depend on."""
    needed = list(plugins)
    for name in needed:  # which grows while it is gone through
        project = nox.project.load_toml(ROOT / "plugins" / name / "pyproject.toml")["project"]
        for dependency in project["dependencies"]:
            match = re.match(r"fluxburst-([a-z-]+)", dependency)
            if match and match[1] not in needed:
                needed.append(match[1])
    return needed


def _test_tools_of(plugins: list[str]) -> list[str]:
    """Return what the tests of plugins need beside TEST_TOOLS: their extra ``test``.

    The tests of one plugin use parts of those of the plugins that it builds on.
    """
    tools: list[str] = []
    for name in _with_needed(plugins):
        project = nox.project.load_toml(ROOT / "plugins" / name / "pyproject.toml")["project"]
        tools += project.get("optional-dependencies", {}).get("test", [])
    return tools


def _install(session: nox.Session, plugins: list[str]) -> None:
    """Install the wheels as they are now, also over those of the same version from before.

    What is imported is compiled then: that is little of what is installed.
    """
    wheels = [_wheels()["fluxburst"], *(_wheel_of(name) for name in _with_needed(plugins))]
    flux = [f"flux-python=={FLUX}", "ply"] if FLUX else []
    session.install("--no-compile", *TEST_TOOLS, *_test_tools_of(plugins), *wheels, *flux)
    session.install("--no-compile", "--force-reinstall", "--no-deps", *wheels)


def _install_sources(session: nox.Session) -> None:
    """Install everything as it is in the checkout, unless that has been done.

    What changes later, takes effect without it, save what the projects' files say.
    """
    plugins = [ROOT / "plugins" / name for name in PLUGINS]
    projects = [ROOT, *plugins, ROOT / "docs" / "example_plugin"]
    flux = [f"flux-python=={FLUX}", "ply"] if FLUX else []
    wanted = [*TEST_TOOLS, *_test_tools_of(PLUGINS), *flux]
    texts = [*wanted, *((project / "pyproject.toml").read_text() for project in projects)]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    done = Path(session.virtualenv.location) / "sources-installed"
    if not done.exists() or done.read_text() != digest:
        editable = [word for project in projects for word in ("--editable", str(project))]
        session.install(*wanted, *editable)
        done.write_text(digest)


@nox.session(python=NEWEST, default=False)
def quick(session: nox.Session) -> None:
    """Run some tests from the sources, at once: ``nox -s quick -- tests/test_jobs.py -k held``."""
    if not session.posargs:
        session.error("name what to run, and options of pytest: nox -s quick -- tests/test_jobs.py")
    _install_sources(session)
    session.run("pytest", "-q", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheels of all distributions into dist/."""
    for name, wheel in _wheels().items():
        session.log(f"{name}: {wheel}")


@nox.session(python=PRESENT)
@nox.parametrize("what", ["core", "all"])
def tests(session: nox.Session, what: str) -> None:
    """Run the tests on built wheels: the core alone, and everything together.

    The main paths of the core alone are tested on the older Pythons; everything on the newest, with
    what needs a live Flux, Slurm, sshd or API server, or takes minutes. On the oldest, session
    ``minimums`` tests all but these, and session ``alone`` one plugin.
    """
    newest = session.python == NEWEST
    if (what == "all") != newest and len(PRESENT) > 1:
        session.skip("the core alone is tested on older Pythons, everything on the newest")
    plugins = PLUGINS if what == "all" else []
    _install(session, plugins)
    if what == "all":
        session.install("--no-deps", "./docs/example_plugin")
        session.install(*COVERAGE_TOOLS)
    core = ["tests"] if newest else MAIN_PATHS
    paths = [f"plugins/{name}/tests" for name in plugins]
    marks = "not soak" if newest else WITHOUT_PARTS
    _pytest(session, *core, *paths, marks=marks, live=newest, coverage=what == "all")


@nox.session(python=list(dict.fromkeys([PRESENT[0], NEWEST])), default=False)
@nox.parametrize("plugin", PLUGINS)
def alone(session: nox.Session, plugin: str) -> None:
    """Run the tests of one plugin, without those that it does not build on.

    On the oldest Python without what needs more than Python, or takes minutes.
    """
    live = session.python == NEWEST
    _install(session, [plugin])
    marks = "not soak" if live else WITHOUT_PARTS
    _pytest(session, f"plugins/{plugin}/tests", marks=marks, live=live)


def _lowest_versions() -> list[str]:
    """Pin each dependency to the lowest version that suits all of the distributions."""
    lowest: dict[tuple[str, str], str] = {}
    for file in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        project = nox.project.load_toml(file)["project"]
        extra = project.get("optional-dependencies", {}).get("metrics", [])
        for dependency in [*project["dependencies"], *extra]:
            match = re.fullmatch(r"([\w-]+)>=([0-9.]+)(.*)", dependency)
            if match and not match[1].startswith("fluxburst"):
                name, version, marker = match.groups()
                other = lowest.get((name, marker), version)
                lowest[name, marker] = max(other, version, key=_in_order)
    return [f"{name}=={version}{marker}" for (name, marker), version in lowest.items()]


def _in_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@nox.session(python=PRESENT[:1])
def minimums(session: nox.Session) -> None:
    """Run the tests that need no more than Python, with the lowest versions, on the oldest."""
    session.install(*TEST_TOOLS, *_test_tools_of(PLUGINS))
    session.install(
        "--force-reinstall",
        _wheels()["fluxburst"],
        *(_wheel_of(name) for name in PLUGINS),
        *_lowest_versions(),
    )
    paths = [f"plugins/{name}/tests" for name in PLUGINS]
    _pytest(session, "tests", *paths, marks=WITHOUT_PARTS)


@nox.session(python=False)
def summary(session: nox.Session) -> None:
    """Say what the tests ran with, what had to be left out, and how many were skipped."""
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    ran: set[str] = set()
    for file in sorted(RESULTS.glob("*.xml")):
        ran.update(re.findall(r"3\.\d+", file.name))
        for case in ElementTree.parse(file).iter("testcase"):
            kinds = {child.tag for child in case}
            skipped = case.find("skipped")
            if skipped is not None:
                counts["skipped"] += 1
                reasons[skipped.get("message", "")] += 1
            else:
                counts["failed" if kinds & {"failure", "error"} else "passed"] += 1
        file.unlink()
    absent = [python for python in SUPPORTED if python not in PRESENT]
    print(f"\nPythons: {', '.join(sorted(ran))}; not on this machine: {_or_none(absent)}")
    there = [f"{part} {version}" for part, version in PARTS.items() if version]
    left_out = [part for part, version in PARTS.items() if not version]
    print(f"live: {_or_none(there)}; left out, with the tests that need them: {_or_none(left_out)}")
    if ran - {NEWEST}:
        print(f"tests marked {NEEDS_PARTS}: not on every Python, to save time; {NEWEST} runs all")
    for reason, count in reasons.items():
        print(f"skipped {count}: {reason}")
    if COVERAGE.exists():
        totals = json.loads(COVERAGE.read_text())["totals"]
        print(f"coverage: {totals['percent_covered_display']} % of the lines of core and plugins")
        COVERAGE.unlink()
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")


def _or_none(names: list[str]) -> str:
    return ", ".join(names) or "none"


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """Draw the demo anew, build the website, and check that the documentation tells the truth.

    The website is in build/site then. A link that leads nowhere is an error.
    """
    _install(session, PLUGINS)
    session.install(*SITE_TOOLS)
    session.run("python", "docs/draw_demo.py", "docs/demo.svg")
    for directory in (SITE, ROOT / "docs" / "reference"):  # pages that are no longer made
        shutil.rmtree(directory, ignore_errors=True)
    strict = ["-q", "--fail-on-warning", "--keep-going"]
    session.run("python", "-m", "sphinx", *strict, "-c", "docs", ".", str(SITE))
    _pytest(session, "tests/test_docs.py", "docs/test_website.py")


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Measure speed beside the peers', each from PyPI in an environment of its own."""
    _install(session, PLUGINS)
    session.run("python", "benchmarks/planning.py", *session.posargs)
    session.run("python", "benchmarks/idle.py")
    if FLUX:
        session.run("python", "benchmarks/cycle.py", *session.posargs)
        session.run("python", "benchmarks/joining.py", *session.posargs)
        session.run("python", "benchmarks/service.py", *session.posargs)
    else:
        session.warn(
            "left out: the burst cycle, joining and the service on a live Flux (no flux on PATH)"
        )


@nox.session(python=NEWEST)
def soak(session: nox.Session) -> None:
    """Kill fluxburst a thousand times at random, at all points on a live Flux, and leave it alone.

    It takes about an hour. An argument is the seed.
    """
    _install(session, PLUGINS)
    seed = session.posargs[0] if session.posargs else "1"
    roots = [str(ROOT), *(str(ROOT / "plugins" / name) for name in ("mock", "local"))]
    session.env["PYTHONPATH"] = os.pathsep.join(roots)  # of the packages of tests
    mock, local = "plugins/mock/tests/mock", "plugins/local/tests/local"
    session.run("python", f"{mock}/killing.py", "--soak=1000", f"--seed={seed}")
    sequences = ["-q", f"--hypothesis-seed={seed}", f"{mock}/test_invariants.py"]
    session.run("pytest", *sequences, env={"FLUXBURST_SOAK": "1000"})
    session.run("pytest", "-q", "-m", "soak", *(f"plugins/{name}/tests" for name in PLUGINS))
    directory = session.create_tmp()
    if FLUX:
        session.run("python", f"{local}/killing_live.py", f"{directory}/killing")
        session.run("python", f"{local}/watching_live.py", f"{directory}/watching", "--minutes=10")
    else:
        session.warn("left out: killing and watching on a live Flux (no flux on PATH)")


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    """Check style, format, and which room imports which."""
    session.install(*LINT_TOOLS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": str(ROOT / "src")})


@nox.session(python=NEWEST)
def typing(session: nox.Session) -> None:
    """Check types."""
    needed = nox.project.load_toml(ROOT / "pyproject.toml")["project"]["dependencies"]
    session.install("--no-compile", *TYPING_TOOLS, *needed)
    session.run("mypy")
