"""What is committed in extproc/_pb is what the .proto files say, and needs nothing but protobuf."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import google.protobuf
import pytest
from google.protobuf.descriptor_pool import Default

from extproc import _pb

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "extproc" / "_pb"
FILES = ["__init__.py", "__init__.pyi", "descriptors.binpb"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "proto" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_committed_files_are_up_to_date():
    result = run("--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        assert run("--target", str(tmp_path / folder)).returncode == 0
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("changed", FILES)
def test_check_names_a_file_that_was_changed(tmp_path, changed):
    for name in FILES:
        shutil.copy(COMMITTED / name, tmp_path / name)
    path = tmp_path / changed
    # Field 1 of length 0: a descriptor set with one more, empty, file.
    path.write_bytes(path.read_bytes() + b"\x0a\x00")
    result = run("--check", "--target", str(tmp_path))
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [str(path)]


def test_check_names_files_that_are_missing_and_writes_none(tmp_path):
    result = run("--check", "--target", str(tmp_path))
    assert result.returncode == 1
    assert all(str(tmp_path / name) in result.stderr for name in FILES)
    assert list(tmp_path.iterdir()) == []


def test_everything_listed_is_there_and_typed():
    types = {
        node.name for node in ast.parse((COMMITTED / "__init__.pyi").read_text()).body if type(node) is ast.ClassDef
    }
    assert set(vars(_pb)["__all__"]) <= set(vars(_pb))
    assert set(vars(_pb)["__all__"]) <= types


def test_import_needs_protobuf_only():
    script = """
import json, sys
from extproc import _pb
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))))
print("google.protobuf.descriptor_pb2" in sys.modules)
"""
    command = [sys.executable, "-S", "-c", script]
    environment = {"PYTHONPATH": str(Path(google.protobuf.__file__).parents[2])}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    modules, descriptors = result.stdout.splitlines()
    assert set(json.loads(modules)) - {"__main__", "google", "extproc"} == set()
    # Its classes take longer to make than all of ours.
    assert descriptors == "False"


def test_descriptors_live_in_a_pool_of_their_own():
    with pytest.raises(KeyError):
        Default().FindMessageTypeByName("envoy.service.ext_proc.v3.ProcessingRequest")


def test_an_enum_has_its_numbers():
    assert _pb.BodySendMode.FULL_DUPLEX_STREAMED == 4
    assert _pb.StatusCode.TooManyRequests == 429
