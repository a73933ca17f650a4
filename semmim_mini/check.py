r"""`semmim-mini check`: what is missing on this machine, and what to do about it.

Written for the moment when things do not work yet: it needs nothing but Python to start, asks for versions without importing
anything, and tries torch in a process of its own, where it may fail or crash without taking the answer with it.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semmim_mini.errors import UserError

try:
    import tomllib
except ModuleNotFoundError:  # a Python too old for this package, which is for `read_project` to say
    tomllib = None

PACKAGE = "semmim-mini"
DISK_NEEDED = 2 * 2**30  # bytes: the demo writes tens of MB, data sets and larger runs want GB
MEMORY_NEEDED = 4 * 2**30
EXTRAS = {
    "course": "the notebooks",
    "eval": "caption metrics",
    "full": "sharded data, TensorBoard and the hub",
}

# Runs by itself: prints what torch says about the machine as one line of JSON.
PROBE = """
import json, torch
found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.cuda.is_available()}
found["device"] = torch.cuda.get_device_name() if found["cuda"] else ""
found["bf16"] = found["cuda"] and torch.cuda.is_bf16_supported()
found["mps"] = torch.backends.mps.is_available()
processor = getattr(torch.cpu, "get_capabilities", dict)()  # empty in older versions of torch
found["processor_bf16"] = any(processor.get(name) for name in ("avx512_bf16", "amx_bf16"))
try:
    import torchvision
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # compiled against one version of torch
    found["torchvision"] = torchvision.__version__
except Exception as error:
    found["torchvision_error"] = str(error).splitlines()[0] if str(error) else type(error).__name__
try:
    from semmim_mini.training.precision import choose_precision
    found["precision"], found["because"] = choose_precision("auto", "cuda" if found["cuda"] else "cpu")
except Exception as error:
    found["precision"], found["because"] = "unknown", str(error)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `remedy` says what to do where something is amiss."""

    what: str
    state: str = "ok"  # ok | missing (required: exit code 1) | note (worth knowing, or optional)
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<8} {self.what}"
        return f"{line}\n{'':<9}→ {self.remedy}" if self.remedy else line


def run_check() -> int:
    """Print all findings; 0 when everything required is there, 1 otherwise."""
    missing = 0
    for finding in findings():
        print(finding, flush=True)
        missing += finding.state == "missing"
    all_well = "everything required is here; try: semmim-mini demo --out runs/demo"
    print(f"\n{missing} required thing(s) missing, see above" if missing else f"\n{all_well}")
    return 1 if missing else 0


def findings() -> Iterator[Finding]:
    """In the order in which one would mend them."""
    project = read_project()
    yield python_version(project["requires-python"])
    yield from (requirement(line) for line in project["dependencies"])
    yield from torch_findings()
    yield from machine()
    yield samples()
    yield from extras(project["optional-dependencies"])
    yield Finding("without network: set HF_HUB_OFFLINE=1, and models and tokenizers are taken from the local cache or a folder", "note")


def read_project() -> dict:
    """What the project requires: from pyproject.toml in a checkout, from the installed package's metadata otherwise."""
    if tomllib is None:
        raise UserError(f"Python {platform.python_version()} is too old; install 3.11 or newer, with conda or from python.org")
    file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if file.is_file():
        return tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    metadata = importlib.metadata.metadata(PACKAGE)
    lines = importlib.metadata.requires(PACKAGE) or []
    of_extra = {name: [line.split(";")[0].strip() for line in lines if _extra_of(line) == name] for name in EXTRAS}
    required = [line for line in lines if "extra ==" not in line]
    return {"requires-python": metadata["Requires-Python"], "dependencies": required, "optional-dependencies": of_extra}


def _extra_of(line: str) -> str:
    return line.partition("extra ==")[2].strip(" '\"")


def python_version(wanted: str) -> Finding:
    return _fits("Python", platform.python_version(), wanted, f"install Python {wanted}, for example with conda or from python.org")


def requirement(line: str) -> Finding:
    """Whether the distribution that a requirement names is installed in a version it admits."""
    name = line[: next((i for i, c in enumerate(line) if not (c.isalnum() or c in "-_.")), len(line))]
    wanted = line[len(name) :].partition(";")[0].strip()
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(f"{name} is not installed (needs {wanted or 'any version'})", "missing", f'pip install "{name}{wanted}"')
    return _fits(name, found, wanted, f'pip install "{name}{wanted}"')


def _fits(name: str, found: str, wanted: str, remedy: str) -> Finding:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return Finding(f"{name} {found} (needs {wanted}; not compared)", "note", "pip install packaging, to compare versions")
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding(f"{name} {found}" + (f" (needs {wanted})" if wanted else ""))
    return Finding(f"{name} {found} does not fit (needs {wanted})", "missing", remedy)


def probe() -> tuple[dict | None, str]:
    """What torch says about the machine, or why it says nothing."""
    try:
        command = [sys.executable, "-W", "ignore", "-c", PROBE]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1]), ""
    except (IndexError, ValueError):
        return None, (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]


def torch_findings() -> Iterator[Finding]:
    """torch and torchvision together, GPUs, and the precision that `auto` would choose."""
    found, reason = probe()
    if found is None:
        yield Finding(f"torch cannot be used: {reason}", "missing", "pip install --upgrade torch torchvision, both in one command")
        return
    if "torchvision_error" in found:
        yield Finding(
            f"torchvision cannot be used beside torch {found['torch']}: {found['torchvision_error']}",
            "missing",
            "each torchvision is built for one torch: pip install --upgrade --force-reinstall torch torchvision, in one command",
        )
    else:
        yield Finding(f"torch {found['torch']} and torchvision {found['torchvision']} work together")
    if found["cuda"]:
        yield Finding(f"GPU: {found['device']}, {'with' if found['bf16'] else 'without'} bf16")
    elif found["mps"]:
        yield Finding("GPU: Apple's, through MPS; less tested than CUDA", "note")
    else:
        yield Finding("no GPU that torch can use: tiny trains in minutes, mini in hours; small and base want a GPU", "note")
    yield Finding(f"precision auto means {found['precision']}: {found['because']}")
    if found["processor_bf16"] and not found["cuda"]:
        yield Finding("this processor computes in bf16: with run.precision=bf16 a step of mini takes little more than half as long")
    yield Finding(f"torch uses {found['threads']} thread(s) of {os.cpu_count()} processors; OMP_NUM_THREADS changes that")


def machine() -> Iterator[Finding]:
    """Memory and disk."""
    memory = available_memory()
    if memory is not None:
        few = memory < MEMORY_NEEDED
        remedy = "close other programs, or lower data.batch_size" if few else ""
        yield Finding(f"memory: {memory / 2**30:.1f} GiB available", "note" if few else "ok", remedy)
    free = shutil.disk_usage(Path.cwd()).free
    few = free < DISK_NEEDED
    remedy = "free some, or write elsewhere with --out" if few else ""
    yield Finding(f"disk: {free / 2**30:.1f} GiB free in this folder", "note" if few else "ok", remedy)


def available_memory() -> int | None:
    """Bytes, or None where the system does not tell without further packages."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def samples() -> Finding:
    """The embedded pictures, each of them read."""
    try:
        from semmim_mini.data.cutouts import load_cutouts, samples_folder

        return Finding(f"{len(load_cutouts())} sample pictures in {samples_folder()}")
    except ImportError as error:
        return Finding(f"the sample pictures cannot be read yet: {error}", "missing", "install the packages named above first")
    except UserError as error:
        return Finding(str(error), "missing", "reinstall the package, or use a complete checkout")


def extras(lists: dict[str, list[str]]) -> Iterator[Finding]:
    """Optional packages by what they are for; Java, too, which two caption metrics run on."""
    for name, purpose in EXTRAS.items():
        lacking = [line for line in lists.get(name, []) if requirement(line).state == "missing"]
        remedy = "pip install " + " ".join(f'"{line}"' for line in lacking) if lacking else ""
        yield Finding(f"optional: {name}, for {purpose}" + ("" if not lacking else " (not installed)"), "note" if lacking else "ok", remedy)
    java = shutil.which("java")
    text = f"optional: Java for METEOR and SPICE{'' if java else ' (not found; BLEU, ROUGE and CIDEr work without)'}"
    yield Finding(text, "ok" if java else "note", "" if java else "install a Java runtime, such as OpenJDK, if you need the two")
