"""Suite files that are wrong: every fault is named with its place, and nothing else is said.

Each file of `bad_suites/` says in its first lines what must be reported: `# error: LINE:COLUMN text`. Line and column
are left out where no single place is at fault.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from t2bench.spec.loader import SuiteErrors, load_suite
from t2bench.spec.plan import expand
from t2bench.workloads.text import MIN_VOCAB

FOLDER = Path(__file__).with_name("bad_suites")
FILES = sorted(FOLDER.glob("*.yaml"))


def expected_errors(path: Path) -> list[tuple[str, str]]:
    """(":LINE:COLUMN" or "", text) for each `# error:` line."""
    found = re.findall(r"^# error: (?:(\d+:\d+) )?(.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(f":{place}" if place else "", text) for place, text in found]


def errors_of(path: Path | str, **options: object) -> list[str]:
    with pytest.raises(SuiteErrors) as caught:
        load_suite(path, device="cpu", **options)
    return str(caught.value).splitlines()


def test_there_are_at_least_sixty_golden_files() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_fault_is_reported_at_its_place_and_nothing_else(path: Path) -> None:
    lines = errors_of(path)
    expected = expected_errors(path)
    assert len(lines) == len(expected), lines
    for line, (place, text) in zip(lines, expected, strict=True):
        assert line.startswith(f"{path}{place}:"), line
        assert text in line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbfschema: 1\n", "byte order mark"),
        ("schema: 1\n".encode("utf-16"), "UTF-16"),
        ("schema: 1\n".encode("utf-16-be"), "NUL"),
        (b"schema: 1\nname: a\0b\n", "2:8: the file holds a NUL"),
        (b"schema: 1\nname: caf\xe9\n", "2:10: byte 0xe9 is not UTF-8"),
        (b"schema: 1\nname: \x1b[31m\n", "2:7: character U+001B is not allowed"),
        (b"", "the file is empty"),
        (b"#" * ((1 << 20) + 1), "larger than 1024 KiB"),
        (b'name: "\\UFFFFFFFF"\n', "not a character"),
        (b'name: "\\ud800"\n', "surrogate"),
    ],
)
def test_bytes_that_are_no_text_are_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    (line,) = errors_of(path)
    assert message in line


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"{a: " * 100_000,
        b"- " * 100_000,
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))),
        b"a: [" + b"1, " * 300_000 + b"1]",
        b"a: " + b"x" * ((1 << 20) - 100),
    ],
    ids=["lists", "maps", "sequences", "alias bomb", "long list", "long text"],
)
def test_hostile_files_end_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    for line in errors_of(path):
        assert len(line) < 1000 + len(str(path))


def test_a_python_tag_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    path = tmp_path / "x.yaml"
    path.write_text(f"schema: !!python/object/apply:os.system ['touch {marker}']\n")
    errors_of(path)
    assert not marker.exists()


def test_extends_through_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("schema: 1\n")
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "link.yaml").symlink_to(outside)
    (folder / "x.yaml").write_text("schema: 1\nextends: link.yaml\n")
    (line,) = errors_of(folder / "x.yaml")
    assert "is outside this file's folder" in line


def test_a_base_in_a_circle_of_two_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schema: 1\nextends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("schema: 1\nextends: a.yaml\n")
    (line,) = errors_of(tmp_path / "a.yaml")
    assert line.startswith(f"{tmp_path}/b.yaml:2:10: extends: goes round in a circle")


def test_faults_of_a_base_name_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("schema: 1\nsede: 3\n")
    (tmp_path / "x.yaml").write_text("name: x\nextends: base.yaml\nvariants: [vanilla]\nmatrix: {length: 64}\n")
    (line,) = errors_of(tmp_path / "x.yaml")
    assert line.startswith(f"{tmp_path}/base.yaml:2:1: sede: unknown key, did you mean seed?")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("matrix.lenght=5", "--set matrix.lenght=5: unknown key, did you mean length?"),
        ("matrix.length=[5, x]", "--set matrix.length=[5, x]: matrix.length[1]: expected a whole number"),
        ("measure.rounds=0", "--set measure.rounds=0: expected a whole number of at least 1, got 0"),
        ("measure.rounds", "--set measure.rounds: expected key=value"),
        ("=5", "--set =5: expected key=value"),
        ("a..b=5", "--set a..b=5: expected key=value"),
        ("seed=[1", "--set seed=[1: not YAML"),
        ("model.heads=3", "--set model.heads=3: vanilla, vanilla+flash, transformer2: width 64 is not divisible"),
        ("profiles.cpu.seed=1", "--set profiles.cpu.seed=1: profiles belongs in a file"),
        ("reference=modern", '--set reference=modern: "modern" is not among'),
        ("seed=!!python/name:os.system x", "tags are not allowed"),
        ("name=\udcff", "not text"),
    ],
)
def test_a_wrong_argument_is_named(argument: str, message: str) -> None:
    (line,) = errors_of("quickstart", overrides=[argument])
    assert message in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quikstart", "quikstart: no such file or built-in suite, did you mean quickstart? (there are: "),
        ("nobody.yaml", "nobody.yaml: no such file"),
        ("/nobody/nothing", "no such file"),
        ("a\0b", "no such file"),
        ("../../../etc/passwd", ":1:"),
        ("x" * 5000, "no such file"),
    ],
)
def test_a_suite_that_is_not_there(name: str, message: str) -> None:
    assert any(message in line for line in errors_of(name))


def test_folders_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x.yaml"
    folder.mkdir()
    assert errors_of(folder) == [f"{folder}: not a suite file (a directory)"]
    assert errors_of(str(tmp_path)) == [f"{tmp_path}: not a suite file (a directory)"]
    assert errors_of("/dev/null") == ["/dev/null: not a suite file (not a regular file)"]


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_says_what_there_is(name: str) -> None:
    (line,) = errors_of(name)
    assert line.startswith("suite: an empty name (there are: backends, ")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(SuiteErrors, match="expected cpu, cuda or cuda:N"):
        load_suite("quickstart", device="tpu")


def test_an_argument_that_selects_nothing_says_what_there_is() -> None:
    (line,) = errors_of("quickstart", only="nobody*")
    assert line.startswith('--only: "nobody*" matches no case; variants: vanilla, vanilla+flash, transformer2;')
    assert "train_step/fp32/L64/vanilla" in line


@pytest.mark.parametrize("only", ["", "  "])
def test_an_empty_pattern_does_not_select_everything(only: str) -> None:
    assert errors_of("quickstart", only=only) == ["--only: empty pattern"]
    with pytest.raises(SuiteErrors, match="--only: empty pattern"):
        expand(load_suite("quickstart", device="cpu"), only=only)


def test_the_attention_workload_needs_no_vocabulary() -> None:
    assert expand(load_suite("backends", device="cpu", overrides=["model.vocab=10"])).cases


def test_the_smallest_vocabulary_is_the_one_that_text_can_be_written_in() -> None:
    assert load_suite("quickstart", device="cpu", overrides=[f"model.vocab={MIN_VOCAB}"])
    (line,) = errors_of("quickstart", overrides=[f"model.vocab={MIN_VOCAB - 1}"])
    assert line.startswith(f"--set model.vocab={MIN_VOCAB - 1}: vanilla, vanilla+flash, transformer2: workloads that")
