"""What the scheduler makes of trainings: text, turns, checkpoints and records, with scripted workers."""

import os
from dataclasses import replace

import pytest
from scripted_learners import COPY, Workers, case, details

from t2bench.runner.launcher import LauncherGone, WorkerFailed
from t2bench.runner.trainee import Checkpoints, Trainee


@pytest.mark.parametrize(("kind", "primary"), [("translate", "test[7-9]"), ("extrapolate", "test[7-9]")])
@pytest.mark.parametrize("turned", [False, True])
def test_extrapolation_is_judged_on_the_longest_whatever_the_order(train, kind, primary, turned):
    ranges = COPY.test_lengths[::-1] if turned else COPY.test_lengths
    record = train(Workers(), case(kind=kind, corpus=replace(COPY, test_lengths=ranges)))["vanilla"]
    expected = "test[4-6]" if turned and kind == "translate" else primary
    assert record.observed["scores"][0]["test"] == expected
    assert {sample["test"] for sample in details(train, record)["samples"]} == {expected}


def test_a_variant_with_a_vocabulary_of_its_own_has_text_of_its_own(train):
    corpus = replace(COPY, tokenizer="bpe")
    sizes = {"small": 276, "large": 281}
    found = train(Workers(), *(case(name, corpus=corpus, vocab=vocab) for name, vocab in sizes.items()))
    used = {name: record.observed["quality"]["corpus"]["tokenizer"]["vocab"] for name, record in found.items()}
    assert used["small"] <= sizes["small"] < used["large"] <= sizes["large"]
    assert all(record.metrics["bleu"].value > 0 for record in found.values())


def test_names_that_differ_by_odd_signs_only_share_no_file(train):
    names = ["a b", "a_b", "a:b", "\u65e5" * 60, "\u65e5" * 59 + "\u672c"]
    found = train(Workers(), *(case(name) for name in names), forget=False)
    assert len({record.observed["details"] for record in found.values()}) == len(names)
    assert len(list(train.folder.glob("checkpoints/*.json"))) == len(names)
    assert all(details(train, record)["case"] == record.case for record in found.values())


def test_the_curve_has_training_only_and_the_target_is_its_first_crossing(train):
    right = {10: 0, 20: 16, 30: 6}
    record = train(Workers(right=lambda step: right[step]), case(target=40.0))["vanilla"]
    curve = record.observed["curve"]
    assert [row["step"] for row in curve] == [10, 20, 30]
    assert curve[0]["val_bleu"] < 1 < curve[2]["val_bleu"] < 40 < curve[1]["val_bleu"]
    assert [row["train_loss"] for row in curve] == pytest.approx([7.9, (17 * 7 + 20 * 3) / 10, (27 * 7 + 30 * 3) / 10])
    assert [row["energy_j"] for row in curve] == [6.0, 12.0, 18.0]
    values = {name: metric.value for name, metric in record.metrics.items()}
    assert (values["time_to_quality_s"], values["cpu_time_to_quality_s"]) == (10.0, 20.0)
    assert (values["tokens_to_quality"], values["energy_to_quality_j"]) == (2000, 12.0)
    assert (values["train_time_s"], values["train_tokens"]) == (15.0, 3000)
    assert (values["train_tokens_per_s"], values["train_tokens_per_cpu_s"]) == (200.0, 100.0)
    assert (values["val_loss"], values["val_bleu"]) == (9.0, curve[2]["val_bleu"])
    assert {(row["val_loss"], row["lr"]) for row in curve} == {(9.0, 0.1)}
    met = train(Workers(right=lambda step: right[step]), case(target=curve[1]["val_bleu"]))["vanilla"].metrics
    assert met["tokens_to_quality"].value == 2000, "to reach it is enough"
    missed = train(Workers(right=lambda step: 0), case(target=40.0))["vanilla"].metrics
    assert missed["time_to_quality_s"].value is missed["tokens_to_quality"].value is None


@pytest.mark.parametrize(("patience", "last"), [(0, 60), (1, 30), (2, 60)])
def test_patience(train, patience, last):
    right = {10: 5, 20: 9, 30: 9, 40: 14, 50: 14, 60: 14}
    record = train(Workers(right=lambda step: right[step]), case(steps=60, patience=patience))["vanilla"]
    assert record.observed["curve"][-1]["step"] == last
    assert record.status == "ok"


def test_the_seed_of_a_launch(train):
    workers = Workers()
    record = train(workers, replace(case(), seed=40), launch=2)["vanilla"]
    assert (record.axes["seed"], record.launch) == (42, 2)


def test_all_variants_of_a_launch_have_its_seed_and_launches_share_no_file(train):
    cases = [replace(case(name), seed=40) for name in ("one", "two", "three")]
    found = [record for launch in (0, 1) for record in train(Workers(), *cases, launch=launch).values()]
    assert [record.axes["seed"] for record in found] == [40, 40, 40, 41, 41, 41]
    assert len({record.observed["details"] for record in found}) == 6


def test_a_divergence_and_a_crash_leave_the_others_alone(train):
    def crash(model):
        raise WorkerFailed("timeout", "no answer")

    failing = {
        ("wild", "train"): lambda model: {"diverged": "the loss is nan at update 12"} if model.step >= 10 else None,
        ("slow", "validate"): crash,
        ("mute", "more"): crash,
    }
    found = train(Workers(failing=failing), *map(case, ("vanilla", "wild", "slow", "mute")))
    assert {name: record.status for name, record in found.items()} == {
        "vanilla": "ok",
        "wild": "diverged",
        "slow": "timeout",
        "mute": "timeout",
    }
    assert "update 12" in found["wild"].reason
    assert len(found["wild"].observed["curve"]) == 1
    assert all("bleu" not in found[name].metrics for name in ("wild", "slow", "mute"))
    assert not (train.folder / "checkpoints").exists()


def test_a_failed_probe_is_not_trained(train):
    probes = [{"name": "causal", "passed": False, "detail": "sees the future"}]
    failing = {("vanilla", "begin"): lambda model: {"step": 0, "num_params": 5, "probes": probes}}
    workers = Workers(failing=failing)
    record = train(workers, case())["vanilla"]
    assert (record.status, "causal" in record.reason) == ("wrong_numerics", True)
    assert all(do == "begin" for _, do, _ in workers.log)


def stop(model):
    raise KeyboardInterrupt


def test_an_interrupted_training_goes_on_with_its_curve(train):
    undisturbed = train(Workers(), case())["vanilla"].observed["curve"]
    with pytest.raises(KeyboardInterrupt):
        train(Workers(failing={("vanilla", "train"): lambda m: stop(m) if m.step >= 24 else None}), case())
    workers = Workers()
    record = train(workers, case())["vanilla"]
    assert record.observed["curve"] == undisturbed
    assert [arguments["until"] for _, do, arguments in workers.log if do == "train"] == [30, 30]
    assert not (train.folder / "checkpoints").exists()


def test_a_checkpoint_that_cannot_be_read_is_begun_anew(train):
    undisturbed = train(Workers(), case())["vanilla"].observed["curve"]
    with pytest.raises(KeyboardInterrupt):
        train(Workers(failing={("vanilla", "select"): stop}), case())
    assert [path.suffixes[-2:] for path in train.folder.glob("checkpoints/*.pt")] == [[".step20", ".pt"]]

    def refuse(model, seen=[]):  # noqa: B006 (remembers its first call)
        seen.append(model)
        if len(seen) == 1:
            return {"unusable": "damaged checkpoint"}
        return None

    workers = Workers(failing={("vanilla", "begin"): refuse})
    assert train(workers, case())["vanilla"].observed["curve"] == undisturbed
    begun = [arguments["checkpoint"] for _, do, arguments in workers.log if do == "begin"]
    assert begun[0] is not None
    assert begun[1] is None


def test_what_is_no_fault_of_a_checkpoint_does_not_begin_it_anew(train):
    with pytest.raises(KeyboardInterrupt):
        train(Workers(failing={("vanilla", "select"): stop}), case())

    def fail(model):
        raise WorkerFailed("error", "no memory for another process")

    workers = Workers(failing={("vanilla", "begin"): fail})
    assert train(workers, case(), forget=False)["vanilla"].status == "error"
    assert len(workers.log) == 1
    assert [path.suffixes[-2:] for path in train.folder.glob("checkpoints/*.pt")] == [[".step20", ".pt"]]


def test_a_launcher_that_died_is_no_row_and_costs_no_checkpoint(train):
    undisturbed = train(Workers(), case())["vanilla"].observed["curve"]

    def die(model=None):
        if model is None or model.step >= 20:
            raise LauncherGone("the fork server has died")

    with pytest.raises(LauncherGone):
        train(Workers(failing={("vanilla", "train"): die}), case())
    workers = Workers()
    workers.start = die
    with pytest.raises(LauncherGone):
        train(workers, case())
    workers = Workers()
    assert train(workers, case())["vanilla"].observed["curve"] == undisturbed
    assert workers.log[0][2]["checkpoint"].endswith(".step20.pt")


def test_a_full_disk_ends_the_run_and_not_the_variant(train):
    """What a later checkpoint cannot be put beside is still there to go on from."""
    full = {("vanilla", "save"): lambda model: {"failed": 28} if model.step == 20 else None}
    with pytest.raises(OSError, match=os.strerror(28)):
        train(Workers(failing=full), case())
    workers = Workers()
    assert train(workers, case())["vanilla"].status == "ok"
    assert workers.log[0][2]["checkpoint"].endswith(".step10.pt")


def test_halves_of_checkpoints_are_removed(train, tmp_path):
    trainee = Trainee(case(), text=None)
    checkpoints = Checkpoints(train.folder)
    half = train.folder / "checkpoints" / f"{trainee.stem}.step10.pt.123.partial"
    half.parent.mkdir()
    half.touch()
    checkpoints.forget(trainee)
    assert not half.parent.exists()
    half.parent.mkdir()
    half.with_name("of another").touch()
    checkpoints.clear()
    assert not half.parent.exists()
    checkpoints.clear()


@pytest.mark.parametrize("together", [True, False])
def test_variants_take_turns_between_validations_if_they_fit(train, together):
    workers = Workers()
    found = train(workers, case("one"), case("two"), together=together)
    assert {record.observed["interleave"] for record in found.values()} == {"validation" if together else "launches"}
    order = [variant for variant, do, _ in workers.log if do == "validate"]
    turns = [set(order[place : place + 2]) for place in (0, 2, 4)]
    assert turns == [{"one", "two"}] * 3 if together else order == ["one"] * 3 + ["two"] * 3


def test_what_is_chosen_by_is_validation_bleu_and_a_finished_training_needs_no_checkpoint(train):
    workers = Workers()
    record = train(workers, case())["vanilla"]
    told = [arguments["score"] for _, do, arguments in workers.log if do == "remember"]
    assert told == [row["val_bleu"] for row in record.observed["curve"]]
    assert told == sorted(set(told))
    assert sum(do == "save" for _, do, _ in workers.log) == 2
    assert record.observed["selected"] == {"select": "last", "steps": [30]}
