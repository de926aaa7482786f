"""The journal: nothing that was finished is lost, nothing unfinished is kept, nothing is there twice."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from t2bench.records import Record, RecordError, Run, encode, read_lines
from t2bench.runner.journal import Journal, RunLocked


def record(case: str, launch: int = 0) -> Record:
    return Record(
        run="r",
        case=case,
        group="g",
        variant=case,
        workload="forward",
        axes={},
        pass_="time",
        launch=launch,
        status="ok",
    )


UNITS = [[record("a"), record("b")], [record("c")], [record("a", 1), record("b", 1), record("d", 1)]]
KEYS = [r.key for unit in UNITS for r in unit]


def keys_at(directory: Path) -> list[tuple[str, str, int]]:
    with Journal(directory) as journal:
        return [r.key for r in journal.records]


def test_what_was_appended_is_read_back_in_order(tmp_path):
    with Journal(tmp_path) as journal:
        for unit in UNITS:
            journal.append(unit)
    assert keys_at(tmp_path) == KEYS
    assert [r.key for r in Run.load(tmp_path).records] == KEYS


def test_a_record_cannot_be_written_twice(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append(UNITS[0])
        with pytest.raises(ValueError, match="already recorded"):
            journal.append([record("b")])
    assert keys_at(tmp_path) == KEYS[:2]


def test_cut_at_every_byte_keeps_exactly_the_complete_units(tmp_path):
    whole = [b"".join(encode(r, part=(i, len(unit))) for i, r in enumerate(unit)) for unit in UNITS]
    data = b"".join(whole)
    ends = [sum(map(len, whole[: n + 1])) for n in range(len(whole))]
    for cut in range(len(data) + 1):
        path = tmp_path / "records.jsonl"
        path.write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends)
        expected = [r.key for unit in UNITS[:complete] for r in unit]
        assert keys_at(tmp_path) == expected, cut
        assert path.stat().st_size == (ends[complete - 1] if complete else 0)


class FailingFile:
    """Fails at the n-th operation, after writing only a part of what it was given."""

    def __init__(self, path: Path, fail_at: int) -> None:
        self.path, self.left = path, fail_at

    def _count_down(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write(self, data: bytes) -> None:
        torn = len(data) * 2 // 3
        with self.path.open("ab") as file:
            try:
                self._count_down()
            except OSError:
                file.write(data[:torn])
                raise
            file.write(data)

    def sync(self) -> None:
        self._count_down()

    def close(self) -> None:
        pass


def test_failing_at_the_nth_write_or_sync_for_every_n_loses_nothing_that_append_returned(tmp_path):
    for fail_at in range(2 * len(UNITS) + 1):
        directory = tmp_path / str(fail_at)
        directory.mkdir()
        finished = []
        with Journal(directory, FailingFile(directory / "records.jsonl", fail_at)) as journal:
            try:
                for unit in UNITS:
                    journal.append(unit)
                    finished += [r.key for r in unit]
            except OSError:
                pass
        found = keys_at(directory)
        assert found[: len(finished)] == finished
        assert len(found) == len(set(found))
        with Journal(directory) as journal:  # and the rest can be written now
            for unit in UNITS:
                if unit[0].key not in journal:
                    journal.append(unit)
        assert sorted(keys_at(directory)) == sorted(KEYS)


def test_a_full_disk_is_an_error_at_append_and_keeps_what_was_there(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append(UNITS[0])
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    class Full:
        def __init__(self):
            self.file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115

        def write(self, data):
            self.file.write(data)

        def sync(self):
            os.fsync(self.file.fileno())

        def close(self):
            self.file.close()

    with Journal(tmp_path, Full()) as journal, pytest.raises(OSError, match="No space"):
        journal.append(UNITS[1])
    assert keys_at(tmp_path) == KEYS[:2]


def test_every_single_byte_corruption_is_noticed(tmp_path):
    lines = [encode(record(f"case{n}")) for n in range(3)]
    path = tmp_path / "records.jsonl"
    data = b"".join(lines)
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x15]) + data[position + 1 :])
        entries = [entry for _, entry in read_lines(path)]
        intact = [entry for entry in entries if isinstance(entry, Record)]
        assert any(isinstance(entry, RecordError) for entry in entries), position
        assert all(entry in [record(f"case{n}") for n in range(3)] for entry in intact), position


@pytest.mark.parametrize("victim", range(3))
def test_a_damaged_unit_in_the_middle_is_named_moved_aside_whole_and_can_be_written_again(tmp_path, victim):
    with Journal(tmp_path) as journal:
        for unit in UNITS:
            journal.append(unit)
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[victim] = lines[victim].replace(b'"ok"', b'"OK"')
    path.write_bytes(b"".join(lines))
    assert [number for number, _ in Run.load(tmp_path).damage] == [victim + 1]
    hit = UNITS[0] if victim < 2 else UNITS[1]
    rest = [r.key for unit in UNITS if unit is not hit for r in unit]
    with Journal(tmp_path) as journal:
        assert [r.key for r in journal.records] == rest
        assert journal.set_aside == len(hit)
        journal.append(hit)
    assert keys_at(tmp_path) == rest + [r.key for r in hit]
    assert Run.load(tmp_path).damage == ()
    assert len((tmp_path / "damaged.jsonl").read_bytes().splitlines()) == len(hit)


def test_a_newer_schema_is_refused_by_name(tmp_path):
    import dataclasses

    (tmp_path / "records.jsonl").write_bytes(encode(dataclasses.replace(record("a"), schema=99)))
    assert "schema 99 is newer" in Run.load(tmp_path).damage[0][1]


def test_two_processes_cannot_write_the_same_run_and_a_dead_ones_lock_is_free(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from t2bench.runner.journal import Journal
        journal = Journal(Path({str(tmp_path)!r}))
        print("locked", flush=True)
        time.sleep(60)
        """
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunLocked, match=f"process {holder.pid}"):
            Journal(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    assert keys_at(tmp_path) == []
