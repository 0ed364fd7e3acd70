"""The evidence in the browser: ablations, baselines, the results table; without a browser."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import opened
from streamlit.testing.v1 import AppTest

from u2a_core.config import load_settings, override
from u2a_core.runs import Run, Workspace, demo_assets

ROOT = Path(__file__).parents[1]
Made = Callable[..., Run]


def said(app: AppTest) -> str:
    found = [*app.caption, *app.markdown, *app.info, *app.warning, *app.error]
    return " ".join(element.value.replace("\\", "") for element in found)


def charts(app: AppTest) -> list[dict]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def titles(app: AppTest) -> list[str]:
    return [chart["layout"]["title"]["text"] for chart in charts(app)]


def baseline(folder: Path, reward: float = 0.4) -> Run:
    """A finished DPO run, synthesized from a shipped one."""
    shipped = Workspace(folder).find("demo-npo-uniform")
    words = ["--baseline.method", "dpo"]
    run = Run.create(folder / "dpo-1", "baseline", override(shipped.settings(), words))
    history = shipped.table("history")
    run.write_table("history", history.drop(columns=["effective_samples", "support"]))
    run.write_table("generations", shipped.table("generations"))
    report = shipped.report() | {"command": "baseline", "method": "dpo"}
    report = {k: v for k, v in report.items() if k != "effective_samples"}
    report["reward"]["after"] |= {"mean": reward, "low": reward - 0.1, "high": reward + 0.1}
    run.write_report(report | {"ledger": {"tokens": 1_000_000, "forward_passes": 10}})
    run.model_folder.mkdir()
    return run


def test_without_an_ablation_the_page_says_how_to_make_one(folder: Path):
    app = opened("ablation")
    assert "Launch one with the form" in said(app)
    assert "Makes **145 runs** on 240 negatives" in said(app)
    assert app.code[0].value == f"u2a ablate {demo_assets() / 'demo.yaml'}"


def test_the_form_counts_its_runs_and_makes_the_command(folder: Path):
    app = opened("ablation")
    app.multiselect("draft_ablation_demo_0_ablation_arms").set_value(["top_k", "random_k"])
    app.text_input("draft_ablation_demo_0_ablation_ks").set_value("24,48").run()
    app.number_input("draft_ablation_demo_0_ablation_seeds").set_value(2).run()
    assert "Makes **10 runs**" in said(app)
    words = app.code[0].value.split()
    assert words[words.index("--ablation.arms") + 1] == "top_k,random_k"
    assert words[words.index("--ablation.ks") + 1] == "24,48"
    settings = override(load_settings(Path(words[2])), words[3:])
    assert (settings.ablation.ks, settings.ablation.seeds) == ((24, 48), 2)


@pytest.mark.parametrize(("ks", "told"), [("500", "must be at most 240"), ("a", "ablation.ks")])
def test_a_k_that_cannot_be_is_told_beside_a_disabled_button(folder: Path, ks: str, told: str):
    app = opened("ablation")
    app.text_input("draft_ablation_demo_0_ablation_ks").set_value(ks).run()
    assert told in app.error[0].value.replace("\\", "")
    assert next(b for b in app.button if b.label == "Launch").disabled


def test_a_finished_ablation_shows_curves_differences_and_what_is_lost(
    folder: Path, made_ablation: Made
):
    made_ablation(folder)
    app = opened("ablation", run="abl")
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers["K*"] == "96"
    assert "Highest: Top-K at K = 96" in titles(app)[0]
    assert "Top-K beats Random-K at 2 of 2 K (interval above 0)" in titles(app)
    assert "U2A is behind Top-K (K = 96) in reward by 0.210" in app.warning[0].value.replace(
        "\\", ""
    )
    assert "Sensitivity of U2A" in {heading.value for heading in app.subheader}


def test_an_ablation_without_a_reward_shows_j(folder: Path, made_ablation: Made):
    run = made_ablation(folder)
    unmeasured = dict.fromkeys(("mean", "low", "high"), None) | {"n": 0}
    j = {"mean": -0.693, "low": None, "high": None, "n": 1}
    report = run.report() | {"original": {"reward": unmeasured, "objective": j}}
    (run.path / "report.json").write_text(json.dumps(report))
    columns = ("reward", "reward_low", "reward_high")
    run.write_table("ablation", run.table("ablation").assign(**dict.fromkeys(columns, math.nan)))
    app = opened("ablation", run="abl")
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers["Original model, J ↑"] == "-0.693"
    assert charts(app)[0]["layout"]["yaxis"]["title"]["text"] == "objective J ↑"


def test_metric_arms_and_single_runs_change_the_picture(folder: Path, made_ablation: Made):
    made_ablation(folder)
    app = opened("ablation", run="abl")
    app.segmented_control("ablation_metric").set_value("objective").run()
    assert charts(app)[0]["layout"]["yaxis"]["title"]["text"] == "objective J ↑"
    arms = next(m for m in app.multiselect if m.key and m.key.startswith("ablation_arms_abl"))
    arms.set_value(["random_k"]).run()
    assert {t.get("name") for t in charts(app)[0]["data"]} == {None, "Random-K"}
    before = len(charts(app)[0]["data"])
    app.toggle("ablation_points").set_value(True).run()
    assert len(charts(app)[0]["data"]) == before + 1


def test_an_ablation_at_work_shows_the_arms_so_far(folder: Path, made_ablation: Made):
    run = made_ablation(folder, "running")
    done = len(list(run.path.glob("arms/*"))) - 3  # gains are no arm of the picture
    app = opened("ablation", run="abl")
    assert f"Partial: {done} of " in said(app)
    assert titles(app)
    assert "Stop" in {button.label for button in app.button}


def test_a_failed_ablation_tells_why_and_keeps_its_arms(folder: Path, made_ablation: Made):
    made_ablation(folder, "failed")
    app = opened("ablation", run="abl")
    assert "must be finite" in said(app)
    assert "Partial: the " in said(app)
    assert "Resume" in {button.label for button in app.button}


def test_one_seed_has_no_band_and_says_so(folder: Path, made_ablation: Made):
    made_ablation(folder, seeds=1)
    app = opened("ablation", run="abl")
    assert "One seed only: no band" in said(app)
    assert not any(trace.get("fill") for trace in charts(app)[0]["data"])
    assert "Top-K minus Random-K: no interval from one seed" in titles(app)


def test_an_ablation_is_one_line_in_lists_and_its_arms_open_by_link(
    folder: Path, made_ablation: Made
):
    run = made_ablation(folder)
    space = Workspace(folder)
    assert [space.identify(r) for r in space.runs()] == ["abl"]
    assert len(space.arms(run)) == len(run.table("plan"))
    assert "Top-K minus Random-K at K = 96: +0.400 [" in said(opened("home"))
    app = opened("unlearn", run="abl/arms/top_k-96-1")
    assert app.selectbox("unlearn_run").value == "abl/arms/top_k-96-1"
    assert not {"Delete for good", "Resume"} & {button.label for button in app.button}
    assert "abl/arms/top_k-96-1" not in opened("unlearn").selectbox("unlearn_run").options


def test_a_click_chooses_a_run_or_the_runs_of_a_mean():
    code = (
        "from types import SimpleNamespace as S; import streamlit as st\n"
        "from app.ablation_view import clicked\n"
        "def click(*points): clicked(S(selection=S(points=list(points))))\n"
        "click({'customdata': ['top_k-96-1']})\n"
        "assert st.session_state['ablation_point'] == {'run': 'top_k-96-1'}\n"
        "click({'customdata': [0.1, 0.2, 3, 'top_k', 96]}); click({}); click()\n"
        "assert st.session_state['ablation_point'] == {'arm': 'top_k', 'k': 96}"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_baselines_are_launched_beside_unlearning(folder: Path):
    app = opened("unlearn")
    app.selectbox("method").set_value("ppo").run()
    assert app.code[0].value.startswith("u2a baseline")
    assert app.code[0].value.endswith("--baseline.method ppo")
    assert not app.radio
    app.number_input("draft_unlearn_demo_0_baseline_steps").set_value(7).run()
    assert "--baseline.steps 7" in app.code[0].value


def test_what_retrain_lacks_is_told_beside_the_disabled_button(folder: Path):
    app = opened("unlearn")
    app.selectbox("method").set_value("retrain").run()
    assert "name the base model" in said(app)
    assert next(b for b in app.button if b.label == "Launch").disabled
    app.text_input("retrain_base").set_value("/some/model").run()
    assert not next(b for b in app.button if b.label == "Launch").disabled
    assert "--baseline.base /some/model" in app.code[0].value


def test_a_baseline_is_watched_without_weights(folder: Path):
    baseline(folder)
    app = opened("unlearn", run="dpo-1")
    assert app.selectbox("unlearn_run").value == "dpo-1"
    assert len(charts(app)) == 2
    assert "reward ↑ +0.400" in said(opened("home"))


def test_results_are_a_table_with_the_best_in_bold_and_four_exports(folder: Path):
    baseline(folder, reward=0.9)
    app = opened("compare", b="dpo-1")
    (shown,) = (table.value for table in app.table)
    cells = shown.set_index("method")["Reward-V ↑"]
    assert cells["DPO"] == "**+0.900 [+0.800, +1.000]**"
    assert not cells["NPO \\+ U2A"].startswith("**")
    assert shown.set_index("method")["tokens"]["DPO"] == "1 M"
    labels = [element.proto.label for element in app.get("download_button")]
    assert {"CSV", "JSON", "LaTeX", "Markdown"} <= set(labels)


def test_shipped_runs_have_counted_their_tokens_and_have_no_model_to_evaluate(folder: Path):
    app = opened("compare", b="demo-npo-u2a")
    assert "Tokens" in app.segmented_control(key="cost").options
    assert "Cost in seconds only" not in said(app)
    assert "kept no model" in said(app)
    assert next(b for b in app.button if b.label == "Start").disabled


def test_an_evaluation_is_launched_joined_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from u2a_core import jobs

    run = baseline(folder)
    monkeypatch.setattr(jobs, "_begin", lambda _: None)
    app = opened("compare", b="dpo-1")
    next(b for b in app.button if b.label == "Start").click().run()
    assert not app.exception
    made = next(r for r in Workspace(folder).runs() if r.config()["command"] == "evaluate")
    assert made.settings().evaluation.target == str(run.path)
    figures = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 200, "n_valid": 198}
    report = {"command": "evaluate", "target": str(run.path), "judge": {}, "seconds": 1.0}
    report |= {"metrics": {"perplexity": figures}, "missing": {"coherence": "No encoder."}}
    made.write_report(report)
    app = opened("compare", b="dpo-1")
    columns = list(app.table[0].value.columns)
    assert any(column.startswith("Perplexity") for column in columns), columns
    assert "dpo-1: Perplexity" in said(opened("home"))
    assert "198 of 200" in str(opened("compare", run=made.path.name).dataframe[0].value)


def test_rows_are_runs_that_differ_by_their_seed_alone(folder: Path):
    first = baseline(folder)
    for name, words in (("again", ["--seed", "1"]), ("other", ["--baseline.steps", "9"])):
        own = override(first.settings(), words)
        run = Run.create(folder / name, "baseline", own)
        for table in ("history", "generations"):
            run.write_table(table, first.table(table))
        run.write_report(first.report())
    code = (
        "from pathlib import Path; from u2a_core import table\n"
        "from u2a_core.runs import Workspace\n"
        f"space = Workspace(Path({str(folder)!r}))\n"
        "rows = [(row.method, row.runs) for row in table.rows(space.runs()) if row.runs]\n"
        "dpo = sorted(runs for method, runs in rows if method.startswith('DPO ('))\n"
        "assert dpo == [1, 2], rows"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, env=env)
