"""What a release consists of, made into dist/: the sdist, a wheel of this machine, the SBOM and the checksums.

    python release.py [FOLDER]

The sdist is made from the files of the last commit alone, and comes out the same byte by byte wherever and
whenever it is made with one setuptools: `setup.py` writes it with the time of that commit (or SOURCE_DATE_EPOCH),
in order, and as nobody's. `NAME.cdx.json` is a CycloneDX list of what the package needs, with the versions that are
installed here, which are those that the tests ran with. Standard library only. Called by `make dist`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
NAME = re.compile(r"[A-Za-z0-9._-]+")


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


def make_sdist(folder: Path, epoch: int) -> Path:
    """The sdist of the last commit, in `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
            archive.extractall(temporary)
        run(["setup.py", "--quiet", "sdist", "-d", str(folder)], temporary, epoch)
    return max(folder.glob("*.tar.gz"), key=os.path.getmtime)


def run(words: list[str], folder: str | Path, epoch: int) -> None:
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run([sys.executable, *words], cwd=folder, env=env, check=True)


def requirements(project: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(scope, requirement) of everything that pyproject.toml names; the first scope of a name counts."""
    told = project["project"]
    seen: set[str] = set()
    groups = [("required", told["dependencies"])]
    groups += [("optional", each) for name, each in told["optional-dependencies"].items() if name != "test"]
    groups += [("excluded", project["build-system"]["requires"])]
    for scope, group in groups:
        for requirement in group:
            name = NAME.match(requirement)[0]  # type: ignore[index]
            if name not in seen:
                seen.add(name)
                yield scope, requirement


def component(scope: str, requirement: str) -> dict[str, Any]:
    """What the SBOM says of one requirement."""
    name = NAME.match(requirement)[0]  # type: ignore[index]
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}"
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "scope": scope, "purl": purl}
    found["properties"] = [{"name": "python:requirement", "value": requirement}]
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return found
    found |= {"version": metadata["Version"], "purl": f"{purl}@{metadata['Version']}"}
    if metadata["License-Expression"]:
        found["licenses"] = [{"expression": metadata["License-Expression"]}]
    return found


def sbom(sdist: Path, epoch: int) -> dict[str, Any]:
    """The CycloneDX document of a release; the same for the same sdist, time and environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    told = project["project"]
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    ref = f"pkg:pypi/{told['name'].replace('_', '-')}@{told['version']}"
    parts = [component(*each) for each in requirements(project)]
    used = [part["bom-ref"] for part in parts if part["scope"] != "excluded"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "component": {
                "type": "library",
                "bom-ref": ref,
                "name": told["name"],
                "version": told["version"],
                "description": told["description"],
                "purl": ref,
                "licenses": [{"expression": told["license"]}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": ref, "dependsOn": used}, *({"ref": part["bom-ref"]} for part in parts)],
    }


def main() -> int:
    folder = Path(sys.argv[1] if sys.argv[1:] else ROOT / "dist").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if git("status", "--porcelain", "--untracked-files=no").strip():
        print("release.py: what is not committed is not in the release", file=sys.stderr)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
    sdist = make_sdist(folder, epoch)
    wheel = ["-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(sdist)]
    run(wheel, folder, epoch)
    document = folder / sdist.name.replace(".tar.gz", ".cdx.json")
    document.write_text(json.dumps(sbom(sdist, epoch), indent=1) + "\n")
    made = sorted(path for path in folder.iterdir() if path.suffix in (".gz", ".whl", ".json"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
