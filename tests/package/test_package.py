"""What is in the sdist and in the wheel, and that a user can build a stage of their own against it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.xdist_group("package"), pytest.mark.timeout(900)]
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(not COMPILER, reason="needs a C compiler: apt install gcc")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The tracked and new files of this tree, without anything that was built here."""
    target = tmp_path_factory.mktemp("source") / "tree"
    ignore = shutil.ignore_patterns(
        "*.so",
        "build",
        "dist",
        "*.egg-info",
        "__pycache__",
        ".git",
        ".venv",
        ".*_cache",
        "toolips_udp/_native/*.c",
    )
    shutil.copytree(ROOT, target, ignore=ignore)
    return target


def setup(tree: Path, *words: str) -> None:
    flags = os.environ.get("TOOLIPS_UDP_CFLAGS", "") + " -O0"
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, "TOOLIPS_UDP_CFLAGS": flags},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    setup(source, "sdist", "-d", str(folder))
    (found,) = folder.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        # `filter` is in 3.11.4 and later
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = folder.glob("toolips_udp-*")
    setup(tree, "bdist_wheel", "-d", str(folder))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_sdist_holds_what_a_build_and_the_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for path in ("native/tudp.h", "native/load_run.h", "native/run.py", "pyproject.toml", "setup.py", "LICENSE"):
        assert path in names
    assert "Makefile" in names and "tests/house/test_floors.py" in names and "bench/harness.py" in names
    pyx = {str(p.relative_to(ROOT)) for p in (ROOT / "toolips_udp/_native").glob("*.py[xi]")}
    pyx |= {str(p.relative_to(ROOT)) for p in (ROOT / "toolips_udp/_native").glob("*.px[di]")}
    assert pyx <= names, f"not in the sdist: {sorted(pyx - names)}"
    built = {n for n in names if n.endswith((".so", ".pyc", ".o")) or "/build/" in n}
    assert not built, f"built files in the sdist: {sorted(built)[:5]}"


def test_two_sdists_of_the_same_files_are_equal_byte_by_byte(source, sdist, tmp_path, monkeypatch):
    """Made at another time, in another folder, by a user with other rights, in another order of the disk."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("TOOLIPS_UDP_PURE", "1")  # what is compiled is in no sdist
    for name, backwards in (("one", False), ("two", True)):
        tree = tmp_path / name / "tree"
        for path in sorted((p for p in source.rglob("*") if p.is_file()), reverse=backwards):
            target = tree / path.relative_to(source)
            if ".egg-info" not in str(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                target.chmod(0o600 if backwards else 0o664)
                os.utime(target, (1_000_000_000 + backwards,) * 2)
        setup(tree, "sdist", "-d", str(tree.parent))
    one, two = tmp_path.glob("*/*.tar.gz")
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive, tarfile.open(sdist) as first:
        members = archive.getmembers()
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in members} == {(0, 0, "", 1_700_000_000)}
        assert {m.mode for m in members} == {0o644}
        assert archive.getnames() == first.getnames() == sorted(archive.getnames())


def test_the_sbom_names_every_requirement_and_the_hash_of_the_sdist(sdist):
    spec = importlib.util.spec_from_file_location("release", ROOT / "release.py")
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    told = release.sbom(sdist, 1_700_000_000)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    root = told["metadata"]["component"]
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(sdist.read_bytes()).hexdigest()}]
    scopes = {part["name"]: part["scope"] for part in told["components"]}
    assert {name for name, scope in scopes.items() if scope == "required"} == {"uvloop", "msgspec", "dnslib"}
    assert scopes["cython"] == "excluded" and scopes["starlette"] == "optional" and "pytest" not in scopes
    msgspec = next(part for part in told["components"] if part["name"] == "msgspec")
    assert msgspec["version"] == importlib.metadata.version("msgspec")
    refs = [part["bom-ref"] for part in told["components"]]
    assert len(set(refs)) == len(refs) and set(told["dependencies"][0]["dependsOn"]) < set(refs)
    assert told == release.sbom(sdist, 1_700_000_000)


def test_the_wheel_holds_headers_pxd_and_stubs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"toolips_udp/py.typed", "toolips_udp/_native/include/tudp.h"} <= names
    for path in (ROOT / "toolips_udp").rglob("*.py*"):
        if path.suffix in (".py", ".pyi", ".pxd") and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names
    assert not [n for n in names if n.startswith(("tests/", "bench/", "native/"))]
    assert not [n for n in names if n.endswith(".c")], "generated C belongs in no wheel"


def test_no_built_file_names_a_path_of_the_machine_that_built_it(wheel, source):
    """Debug information and assertions would carry home and build folders to every user."""
    places = [str(Path.home()), str(source.parent), str(wheel.parent), str(ROOT)]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            # the interpreter's own linker flags may name its library folder; that is not ours to change
            data = archive.read(name).replace(sys.base_prefix.encode(), b"")
            for place in places:
                assert place.encode() not in data, f"{name} names {place}"


def run(installed: Path, code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed), **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_get_include_finds_the_headers_of_an_installed_package(installed):
    found = run(installed, "import toolips_udp; print(toolips_udp.get_include())")
    assert Path(found) == installed / "toolips_udp/_native/include"
    assert (Path(found) / "tudp.h").exists()


def test_get_include_finds_the_headers_of_a_source_tree():
    import toolips_udp

    assert (Path(toolips_udp.get_include()) / "tudp.h").exists()


@needs_compiler
def test_the_header_of_a_stage_compiles_alone(installed, tmp_path):
    source = tmp_path / "alone.c"
    source.write_text('#include "tudp.h"\nint main(void) { tudp_stage s = {0}; return (int)s.abi; }\n')
    command = [
        COMPILER,
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{installed}/toolips_udp/_native/include",
    ]
    done = subprocess.run(
        [*command, str(source), "-o", str(tmp_path / "alone")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    version = re.search(r"define TUDP_ABI (\d+)", (ROOT / "native/tudp.h").read_text())
    assert version and int(version[1]) >= 1


@needs_compiler
def test_a_user_builds_a_stage_of_their_own_against_the_installed_package(installed, tmp_path):
    """The stage of the how-to page, with nothing of the source tree in reach."""
    page = (ROOT / "docs/how-to/write-a-native-stage.md").read_text()
    for name, text in re.findall(r"^```\w+\n(?:# (\S+)\n)(.*?)^```$", page, re.S | re.M):
        (tmp_path / name).write_text(text)
    env = {**os.environ, "PYTHONPATH": f"{installed}:{tmp_path}"}
    for command in (["setup.py", "--quiet", "build_ext", "--inplace"], ["server.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shown = run(installed, "import toolips_udp; print(toolips_udp.__file__)")
    assert shown.startswith(str(installed))


def test_without_a_compiler_the_build_says_one_line_and_goes_on(source):
    """And what is then in the tree serves, on the portable transport."""
    env = {k: v for k, v in os.environ.items() if k not in ("CC", "TOOLIPS_UDP_REQUIRE_NATIVE")}
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(build, cwd=source, env={**env, "CC": "/no/such/compiler"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("toolips_udp: no native core")]
    assert len(lines) == 1 and "the portable transport will serve" in lines[0]
    code = (
        "import types\nfrom toolips_udp import UDP, handler, request, serve\n"
        "m = types.SimpleNamespace(main=handler(lambda c: c.respond(c.packet)))\n"
        "with serve(UDP, m, '127.0.0.1:0') as s: print(request('hello', s.address))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={**env, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "b'hello'\n", done.stderr
    assert "(portable)" in done.stderr


def test_a_required_native_core_that_cannot_be_built_is_an_error(source):
    env = {**os.environ, "CC": "/no/such/compiler", "TOOLIPS_UDP_REQUIRE_NATIVE": "1"}
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    assert subprocess.run(build, cwd=source, env=env, capture_output=True).returncode != 0
