"""Plans: the order of cases, batches, ghosts, exclusions, refusals, selection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2bench.spec.case import Case, Plan
from t2bench.spec.errors import SuiteErrors
from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand

HEAD = "schema: 1\nname: x\nmodel: {width: 64, heads: 8, ff: 96, vocab: 400}\n"


def plan_of(folder: Path, text: str, device: str = "cpu", only: str | None = None) -> Plan:
    path = folder / "x.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return expand(load_suite(path, device=device), only=only)


def ids(plan: Plan) -> list[str]:
    return [case.id for case in plan.cases]


def test_groups_in_matrix_order_variants_inside_the_ghost_last(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "variants: [modern, vanilla]\nreference: vanilla\n"
        "matrix: {workload: [forward, train_step], length: [64, 32], dtype: [fp32, bf16]}\n",
    )
    groups = [
        f"{workload}/{dtype}/L{length}"
        for workload in ("forward", "train_step")
        for length in (64, 32)
        for dtype in ("fp32", "bf16")
    ]
    assert list(plan.groups) == groups
    assert ids(plan) == [f"{group}/{name}" for group in groups for name in ("modern", "vanilla", "vanilla@ghost")]
    assert [case.ghost for case in plan.cases] == [False, False, True] * 8
    assert plan.cases[2].model == plan.cases[1].model


@pytest.mark.parametrize(
    ("text", "batches"),
    [
        ("tokens_per_step: 100\n", {64: 1, 32: 3, 200: 1}),
        ("", {64: 1, 32: 1, 200: 1}),
        ("tokens_per_step: 100\nmodel: {arch: decoder}\n", {64: 1, 32: 3, 200: 1}),
    ],
)
def test_constant_tokens_make_the_batch(tmp_path: Path, text: str, batches: dict[int, int]) -> None:
    text = text.replace("model: {arch: decoder}\n", "")
    plan = plan_of(tmp_path, "variants: [vanilla]\nmatrix: {length: [64, 32, 200]}\n" + text)
    assert {case.length: case.batch for case in plan.cases} == batches


def test_one_given_batch_is_no_part_of_the_id_but_several_are(tmp_path: Path) -> None:
    text = "variants: [vanilla]\ntokens_per_step: 999\nmatrix: {length: [64], batch: BATCH}\n"
    (single,) = plan_of(tmp_path, text.replace("BATCH", "4")).cases
    assert (single.id, single.batch) == ("train_step/fp32/L64/vanilla", 4)
    several = plan_of(tmp_path, text.replace("BATCH", "[4, 8]"))
    assert ids(several) == ["train_step/fp32/L64/batch=4/vanilla", "train_step/fp32/L64/batch=8/vanilla"]
    assert [case.batch for case in several.cases] == [4, 8]


def test_model_fields_are_axes_and_part_of_the_id(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "variants: [vanilla, transformer2_head+gqa]\nghost: false\n"
        "matrix: {length: [64], heads: [4, 8], position: [rope, {kind: sinusoidal, layout: halves}]}\n",
    )
    points = [f"heads={heads}/position={position}" for heads in (4, 8) for position in ("rope", "sinusoidal+halves")]
    names = ("vanilla", "transformer2_head+gqa")
    assert ids(plan) == [f"train_step/fp32/L64/{point}/{name}" for point in points for name in names]
    assert [case.model.num_kv_heads for case in plan.cases] == [4, 1, 4, 1, 8, 2, 8, 2]
    assert plan.cases[0].axes["heads"] == 4
    assert hash(plan.cases[0])


def test_the_ghost_needs_company_and_the_reference(tmp_path: Path) -> None:
    text = "variants: [vanilla, modern]\nmatrix: {length: [32, 64, 128]}\n"
    text += "exclude:\n- {match: {variant: vanilla, length: 64}, reason: a}\n"
    text += "- {match: {variant: modern, length: 128}, reason: b}\n"
    plan = plan_of(tmp_path, text)
    assert ids(plan) == [
        "train_step/fp32/L32/vanilla",
        "train_step/fp32/L32/modern",
        "train_step/fp32/L32/vanilla@ghost",
        "train_step/fp32/L64/modern",
        "train_step/fp32/L128/vanilla",
    ]
    assert [(each.case.id, each.status, each.reason) for each in plan.refusals] == [
        ("train_step/fp32/L64/vanilla", "skipped", "a"),
        ("train_step/fp32/L128/modern", "skipped", "b"),
    ]


def test_a_refusal_is_a_row_with_its_reason(tmp_path: Path) -> None:
    text = "variants: [vanilla, vanilla+cudnn, learned_pos]\nmatrix: {length: [64, 2048]}\n"
    plan = plan_of(tmp_path, text)
    assert [(each.case.id, each.status) for each in plan.refusals] == [
        ("train_step/fp32/L64/vanilla+cudnn", "unsupported"),
        ("train_step/fp32/L2048/vanilla+cudnn", "unsupported"),
        ("train_step/fp32/L2048/learned_pos", "unsupported"),
    ]
    assert all(len(each.reason) > 20 for each in plan.refusals)
    assert "train_step/fp32/L2048/vanilla@ghost" not in ids(plan)


@pytest.mark.parametrize(
    ("match", "excluded"),
    [
        ("{variant: [vanilla, modern]}", 16),
        ("{length: [64, 999]}", 8),
        ("{dtype: bf16, length: 64}", 4),
        ("{workload: train_step}", 8),
        ("{workload: attention}", 8),
        ("{workload: attention+causal}", 8),
        ("{workload: attention+backward}", 0),
        ("{batch: 1}", 16),
        ("{heads: 8}", 16),
        ("{qk_norm: true}", 8),
        ("{position: rope, length: 64}", 4),
        ("{position: {kind: rope, layout: halves}}", 0),
    ],
)
def test_what_an_exclusion_matches(tmp_path: Path, match: str, excluded: int) -> None:
    text = "variants: [vanilla, modern]\nghost: false\n"
    text += (
        "matrix: {workload: [train_step, {kind: attention, causal: true}], length: [64, 128], dtype: [fp32, bf16]}\n"
    )
    total = 16
    plan = plan_of(tmp_path, text + f"exclude: [{{match: {match}, reason: r}}]\n")
    assert (len(plan.refusals), len(plan.cases)) == (excluded, total - excluded)


def test_included_points_take_the_first_values_of_what_they_leave_out(tmp_path: Path) -> None:
    text = "variants: [vanilla, modern]\nmatrix: {workload: [forward, train_step], length: [64, 32], dtype: [bf16]}\n"
    text += "include: [{length: 128, variant: modern}, {length: 256, heads: 4},\n"
    text += "  {length: 128, workload: attention, batch: 3}]\n"
    plan = plan_of(tmp_path, text)
    assert ids(plan)[-7:] == [
        "forward/bf16/L128/modern",
        "forward/bf16/L256/heads=4/vanilla",
        "forward/bf16/L256/heads=4/modern",
        "forward/bf16/L256/heads=4/vanilla@ghost",
        "attention/bf16/L128/batch=3/vanilla",
        "attention/bf16/L128/batch=3/modern",
        "attention/bf16/L128/batch=3/vanilla@ghost",
    ]


def test_the_operator_alone_depends_on_its_own_fields_only(tmp_path: Path) -> None:
    text = "variants: [prenorm, transformer2, {name: few, base: modern}]\nghost: false\n"
    plan = plan_of(tmp_path, text + "matrix: {workload: attention, length: 4096}\n")
    prenorm, transformer2, few = (case.model for case in plan.cases)
    assert prenorm == transformer2
    assert few.delta(prenorm) == {"kv_heads": (None, 2)}
    assert few.attention == "sdpa_flash"


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        ("modern", ["train_step/fp32/L32/modern", "train_step/fp32/L64/modern"]),
        ("*/L32/*", [f"train_step/fp32/L32/{name}" for name in ("vanilla", "modern", "vanilla@ghost")]),
        ("*/L32/vanilla", ["train_step/fp32/L32/vanilla"]),
        ("van*", ["train_step/fp32/L32/vanilla", "train_step/fp32/L64/vanilla"]),
    ],
)
def test_only_keeps_what_it_matches(tmp_path: Path, only: str, kept: list[str]) -> None:
    text = "variants: [vanilla, modern]\nmatrix: {length: [32, 64]}\n"
    assert ids(plan_of(tmp_path, text, only=only)) == kept
    assert ids(plan_of(tmp_path, text + f"only: '{only}'\n")) == kept


def test_only_that_matches_nothing_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteErrors, match=r'"MODERN" matches no case; variants: vanilla, modern; cases look like train'
    ):
        plan_of(tmp_path, "variants: [vanilla, modern]\nmatrix: {length: 32}\n", only="MODERN")


def test_every_case_survives_json(tmp_path: Path) -> None:
    text = "variants: [vanilla, modern]\nmatrix: {workload: [attention, train_step], length: 32, heads: [4, 8]}\n"
    for case in plan_of(tmp_path, text).cases:
        assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case
