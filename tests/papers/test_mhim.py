import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.papers import mhim, mhim_defaults, mhim_table
from benchmarks.papers.cells import NOT_RUN
from benchmarks.papers.cohorts import CPU
from benchmarks.papers.mhim import ARMS, BASE, FAST, FULL, ArmRun, Plan, entry, prepare, runs
from benchmarks.papers.runs import Run, execute
from benchmarks.papers.tables import page
from wsi_mil.checkpoints import read_card
from wsi_mil.cohort.splits import draw_splits
from wsi_mil.config import ABMIL, MHIM
from wsi_mil.errors import ConfigError
from wsi_mil.models.masking import Masking, kept_instances
from wsi_mil.receipts import store_path, write_receipt
from wsi_mil.records import Role
from wsi_mil.store import FeatureStore
from wsi_mil.tasks import Classes
from wsi_mil.train import Fold, train_fold

SMALL = Plan("mhim", slides=20, folds=2, epochs=5)
DIM = 6


def write_cohort(plan: Plan, *, failed: str = "") -> None:
    """Sheet and features as the stages leave them: two of nine tiles stand out where there is tumour; a slide a patient."""
    lines = ["slide_id,path,patient_id,label"]
    for number in range(plan.slides):
        name, tumour, rng = f"s{number:02d}", number % 2, np.random.default_rng(number)
        features = rng.normal(size=(9, DIM)).astype(np.float16)
        features[:2, 3] += 12 * tumour
        lines.append(f"{name},slides/{name}.svs,p{number},{mhim.CLASSES[tumour]}")
        receipt = plan.folder / "features" / f"{name}.json"
        attributes = {"fingerprint": name, "slide_id": name, "encoder": "made", "weights_hash": "", "mpp": 0.5, "tile_px": 224}
        coords = np.arange(18).reshape(9, 2)
        with FeatureStore(store_path(receipt), coords=coords, batch_size=9, attributes=attributes) as store:
            store.begin(DIM)
            store.append_shard(features, np.ones(9, bool))
        status = {"status": "failed", "reason": "too dark"} if name == failed else {"status": "ok", "reason": ""}
        write_receipt(receipt, {"slide_id": name, **status})
    (plan.folder / "cohort.csv").write_text("\n".join(lines))


def run_of(arm: str, seed: int, plan: Plan = SMALL) -> Run:
    one = ArmRun(plan, arm, seed)
    return Run(f"mhim/{arm}/seed-{seed}", one.as_json(), seed, lambda: one.work(Path("no slides are made")))


def masked(settings: MHIM, n: int) -> int:
    """How many of `n` tiles an arm hides at the start of training."""
    masking = Masking(settings.random_ratio, settings.low_ratio, settings.high_ratio, settings.high_share)
    return n - len(kept_instances(torch.arange(n)[None].float(), masking))


def test_each_arm_hides_what_its_name_says() -> None:
    entries = {arm: model for arm in ARMS if isinstance(model := entry(FULL, arm, 1), MHIM)}
    assert len(entries) == len(ARMS) and all(model.base == BASE and model.train.seed == 1 for model in entries.values())
    counts = {arm: masked(model, 1000) for arm, model in entries.items()}
    assert counts["ham"] == 10 and counts["l_ham"] == 810 and counts["random"] == 500 and counts["unmasked"] == 0
    assert all(500 <= counts[arm] <= 510 for arm in ("r_ham", "masking", "siamese")) and 550 < counts["lr_ham"] < 650


def test_the_parts_come_one_after_the_other() -> None:
    base, masking, siamese, whole = (entry(FULL, arm, 0) for arm in (BASE, "masking", "siamese", "r_ham"))
    assert isinstance(base, ABMIL) and base.train.model_dump() == whole.train.model_dump()
    assert siamese == whole.model_copy(update={"consistency": 0.0})
    assert masking == siamese.model_copy(update={"momentum": 0.0})
    published = MHIM(model="mhim", base=BASE, train=whole.train)
    assert whole == published


def test_fast_is_one_pair_beside_the_real_list() -> None:
    few, all_of_them = runs(Path("data"), fast=True), runs(Path("data"), fast=False)
    assert [run.name for run in few] == ["mhim_fast/baseline/seed-0", "mhim_fast/r_ham/seed-0"]
    assert len(all_of_them) == 3 * 9 and len({run.name for run in all_of_them}) == 27
    assert {run.name.split("/")[1] for run in all_of_them[:9]} == {BASE, *ARMS}  # a whole seed before the next
    assert FAST.folder != FULL.folder


def test_other_slides_lie_in_another_folder_and_other_epochs_in_the_same() -> None:
    assert replace(FULL, tumour=(0.001, 0.004)).folder != FULL.folder == replace(FULL, epochs=7).folder


def test_arms_train_on_the_same_folds_and_reuse_trained_models(tmp_path: Path, cache: Path) -> None:
    write_cohort(SMALL)
    jobs = [run_of("r_ham", 0), run_of(BASE, 0)]
    assert execute(jobs, tmp_path) == 2 and execute(jobs, tmp_path) == 0
    student, base = (json.loads((tmp_path / "mhim" / arm / "seed-0.json").read_text())["figures"] for arm in ("r_ham", BASE))
    assert [list(f["slides"]) for f in student["folds"]] == [list(f["slides"]) for f in base["folds"]]
    assert sorted(name for fold in base["folds"] for name in fold["slides"]) == [f"s{n:02d}" for n in range(20)]
    assert base["auroc"] > 0.9 and base["auroc"] == pytest.approx(sum(f["auroc"] for f in base["folds"]) / 2, abs=1e-5)
    weights = {path: path.stat().st_mtime_ns for path in cache.rglob("model.safetensors")}
    assert len(weights) == 4
    (tmp_path / "mhim" / "r_ham" / "seed-0.json").unlink()
    gone = next(path for path in weights if path.parts[-3].startswith("r_ham") and path.parts[-2] == "fold-1")
    (gone.parent / "config.json").unlink()
    assert execute(jobs, tmp_path) == 1
    assert {path for path, when in weights.items() if path.stat().st_mtime_ns != when} == {gone}
    assert json.loads((tmp_path / "mhim" / "r_ham" / "seed-0.json").read_text())["figures"] == student


def test_a_student_is_taught_by_the_baseline_of_its_own_fold_and_seed(tmp_path: Path) -> None:
    write_cohort(SMALL)
    rows = prepare(SMALL, tmp_path)
    of_seed = [draw_splits(rows, Classes(mhim.CLASSES), mhim.split_of(SMALL, seed)) for seed in (0, 1)]
    assert of_seed[0].slides(0, Role.TEST) != of_seed[1].slides(0, Role.TEST)
    folder = ArmRun(SMALL, "masking", 1).fold_models(of_seed[1]).checkpoint(0)
    base = next(path.parent for path in folder.parent.parent.glob("baseline-*/fold-0/config.json"))
    assert read_card(base).trained_on == read_card(folder).trained_on == of_seed[1].fingerprint(0, "slide")
    again = tmp_path / "again"
    fold = Fold(of_seed[1], 0, SMALL.folder / "features", Classes(mhim.CLASSES))
    train_fold(fold, entry(SMALL, "masking", 1), again, CPU, base=base)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_cohort_that_cannot_be_created_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"bench/lung_cohort\.py: expected the script that creates slides .* found no file"
    ):
        prepare(SMALL, tmp_path / "data")
    plan = replace(SMALL, slides=4)
    write_cohort(plan, failed="s02")
    with pytest.raises(ConfigError, match=r"s02\.json: status failed, expected ok: too dark"):
        prepare(plan, tmp_path)


def result(seed: int, *aurocs: float) -> dict:
    figures = {"auroc": sum(aurocs) / len(aurocs), "folds": [{"auroc": value} for value in aurocs]}
    return {"seed": seed, "figures": figures}


def test_differences_to_the_baseline_are_taken_fold_by_fold() -> None:
    results = {f"mhim/baseline/seed-{s}": result(s, 0.8, 0.9) for s in range(3)}
    results |= {"mhim/r_ham/seed-0": result(0, 0.9, 0.9), "mhim/r_ham/seed-2": result(2, 0.9, 1.0)}
    results["mhim_fast/ham/seed-0"] = result(0, 1.0)
    lines = page("{{table: mhim}}\n{{table: mhim_steps}}", results).splitlines()
    cells = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")[1:]] for line in lines}
    assert cells["ABMIL (baseline)"] == ["–", "0.850 ± 0.000", "–", "0.9400", "0.9317"]
    # 0.1, 0.0, 0.1, 0.1: mean 0.075, sd 0.05, se 0.025; t(3) = 3.1824
    less = "+0.075 (-0.005 to +0.155); better in 3 of 4; 2 of 3 seeds"
    mask = "0.5, 0, 0.01, 0.5"
    assert cells["+ consistency = R-HAM"] == [mask, "0.925 ± 0.035 (2 of 3)", less, "+0.0214", "+0.0162"]
    assert cells["HAM instead"] == ["0, 0, 0.01, 1", NOT_RUN, NOT_RUN, "+0.0168", "+0.0066"]
    assert cells["consistency"] == [NOT_RUN, "+0.0032", "+0.0042 (LR-HAM)"]
    assert set(mhim_table.TITLES) == {BASE, *ARMS}


def test_arms_of_the_defaults_are_paired_with_their_base_by_fold() -> None:
    results = {f"mhim_defaults/0.3-1.2/gated/seed-{seed}": result(seed, 0.7, 0.9) for seed in range(2)}
    results |= {"mhim_defaults/0.3-1.2/mhim-gated/seed-1": result(1, 0.8, 0.9)}
    lines = {line.split(" | ")[1]: line for line in page("{{table: mhim_defaults}}", results).splitlines()[2:]}
    assert "0.800 ± 0.000 (2 of 5)" in lines["gated ABMIL"]
    # differences 0.1 and 0: mean 0.05, standard error 0.05; t(1) = 12.706
    assert "+0.050 (-0.585 to +0.685); better in 1 of 2; 1 of 5 seeds" in lines["MHIM over gated ABMIL"]
    assert NOT_RUN in lines["MHIM over TransMIL"]


def test_the_control_of_the_defaults_hides_nothing() -> None:
    settings = mhim_defaults.entry("gated", "unmasked", 3)
    assert isinstance(settings, MHIM) and masked(settings, 1000) == 0 and settings.consistency == 0 and settings.train.seed == 3
    default = mhim_defaults.entry("transmil", "mhim", 0)
    assert isinstance(default, MHIM) and default.base == "transmil" and masked(default, 1000) > 400
