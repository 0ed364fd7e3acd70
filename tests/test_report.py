"""`u2a report`: runs of every kind in one HTML file, escaped, blurred, without outside requests."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from workbench import finished_run

from u2a_core import report
from u2a_core.cli import main
from u2a_core.report.document import text_cell
from u2a_core.report.several import named, pages, report_text
from u2a_core.report.words import word_diff
from u2a_core.runs import Run, Workspace, demo_assets
from u2a_core.runs.files import write_json

SHIPPED = demo_assets() / "runs"


def written(tmp_path: Path, *words: object) -> str:
    """The body of the file that `u2a report` writes."""
    file = tmp_path / "r.html"
    assert main(["report", *map(str, words), "--html", str(file)]) == 0
    return file.read_text(encoding="utf-8").split("<body>")[1]


def shipped(*names: str) -> dict[str, Run]:
    return {name: Run.open(SHIPPED / name) for name in names}


def test_every_kind_of_run_has_its_numbers_and_live_figures(tmp_path: Path, made_ablation):
    finished = made_ablation(tmp_path)
    gains, ours = (Run.open(SHIPPED / name).report() for name in ("demo-gains", "demo-npo-u2a"))
    change = ours["reward"]["difference"]
    bands = pd.DataFrame(finished.report()["bands"])
    assert bands.empty  # the synthesized ablation has no tables of its own
    names = ("demo-gains", "demo-impact", "demo-npo-u2a", "demo-npo-uniform")
    body = written(tmp_path, *(SHIPPED / name for name in names))
    for name in names:
        assert f"<h2>{name}</h2>" in body
    assert body.count("Plotly.newPlot") >= 2 + 2 + 4 + 3 + 2  # …, and the rewards and costs of all
    for words in (
        f"{gains['helps']} of 240 negatives help", "Hurts most when unlearned", "rank correlation",
        "Reward against seconds", "What differs between the runs", "Largest weights",
        f"NPO + U2A: step {ours['steps']} of 30 kept", "replies differ",
    ):  # fmt: skip
        assert words in body, words
    assert "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**change) in body


def test_nothing_is_fetched_from_outside():
    page = report_text(shipped("demo-npo-u2a"), lambda _: "shown")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"'](?!data:)", page)
    assert page.count("</script>") == page.count("<script")


def test_two_descents_are_set_side_by_side_with_what_differs(tmp_path: Path):
    body = written(tmp_path, SHIPPED / "demo-npo-uniform", SHIPPED / "demo-npo-u2a")
    assert "<h2>demo-npo-uniform against demo-npo-u2a</h2>" in body
    assert "<td>command</td><td>unlearn</td><td>reweight</td>" in body
    assert "Sampled at temperature 1 with seed 0, the same for both." in body
    assert "<del style" in body
    assert "<ins style" in body


def test_texts_are_escaped_and_no_mark_leaves_its_cell(tmp_path: Path):
    run = finished_run(tmp_path, "mine", model=False)
    table = run.table("generations").head(4)
    odd = "<script>alert(1)</script> </td> &amp; \u202eabc 😀"
    table = table.assign(prompt=odd, reply_before=odd, reply_after="other " + odd)
    run.write_table("generations", table)
    run.write_table("weights", run.table("weights").assign(response=odd, id="<b>x</b>"))
    body = written(tmp_path, run.path)
    assert "<script>alert(1)" not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "<b>x</b>" not in body


def test_texts_are_blurred_where_the_workbench_blurs_them_or_left_out(tmp_path: Path):
    run = finished_run(tmp_path, "mine", model=False)
    reply = run.table("weights").nlargest(1, "weight").iloc[0]["response"]
    assert 'class="blur"' not in written(tmp_path, run.path)
    sha256 = run.report()["data"]["negatives_sha256"]
    write_json(tmp_path / ".blurred.json", {sha256: True})
    assert Workspace(tmp_path).blurs(run)
    body = written(tmp_path, run.path)
    assert f'<div class="blur" tabindex="0" title="Click to read">{reply}</div>' in body
    assert 'class="blur"' not in written(tmp_path, run.path, "--texts", "shown")
    body = written(tmp_path, run.path, "--texts", "omitted")
    assert reply not in body
    assert "left out" in body


def test_hidden_texts_are_in_no_figure():
    for texts in ("blurred", "omitted"):
        body = "".join(pages(shipped("demo-gains"), lambda _: texts))  # noqa: B023
        figures = body.split("<figure")[1:]
        reply = Run.open(SHIPPED / "demo-gains").table("gains").iloc[0]["response"]
        assert not any(reply in figure.split("</figure>")[0] for figure in figures)


def test_a_damaged_run_is_told_and_hides_no_other(tmp_path: Path):
    for name in ("good", "torn"):
        finished_run(tmp_path, name, model=False)
    (tmp_path / "torn" / "tables" / "history.parquet").write_text("no table")
    (tmp_path / "torn" / "tables" / "generations.parquet").write_text("no table")
    body = written(tmp_path, tmp_path)
    assert body.count("must be a whole table") >= 2
    assert "<h2>good</h2>" in body
    assert "Largest weights" in body


@pytest.mark.parametrize(
    ("state", "told"),
    [("running", "must be a finished run"), ("none", "is none"), ("empty", "got none")],
)
def test_what_cannot_be_reported_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, told: str
):
    folder = tmp_path / "runs"
    if state == "running":
        run = finished_run(folder, "mine", model=False)
        (run.path / "report.json").unlink()
        folder = run.path
    if state == "empty":
        folder.mkdir()
    assert main(["report", str(folder), "--html", str(tmp_path / "r.html")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_a_file_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    call = ["report", str(SHIPPED / "demo-npo-u2a"), "--html", str(tmp_path / "file" / "r.html")]
    assert main(call) == 2
    assert "must be writable" in capsys.readouterr().err


def test_without_a_file_the_runs_are_told_in_the_terminal(capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(SHIPPED / "demo-npo-u2a")]) == 0
    assert "Replies before and after" in capsys.readouterr().out


def test_an_evaluation_and_an_ablation_have_sections(tmp_path: Path, made_ablation):
    run = Run.create(tmp_path / "e", "evaluate", Run.open(SHIPPED / "demo-gains").settings())
    figures = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 200, "n_valid": 198}
    run.write_report(
        {"command": "evaluate", "target": "original", "judge": {}, "seconds": 1.0,
         "metrics": {"perplexity": figures}, "missing": {"coherence": "No <encoder>."}}
    )  # fmt: skip
    body = written(tmp_path, run.path)
    assert "0.250 [0.200, 0.300]" in body
    assert "198 of 200" in body
    assert "No &lt;encoder&gt;." in body
    abl = made_ablation(tmp_path / "a")
    bands = pd.DataFrame(
        [{"arm": "top_k", "k": k, "value": None, "metric": "reward", "mean": 0.5, "low": 0.4,
          "high": 0.6, "n": 3} for k in (24, 96)]
    )  # fmt: skip
    abl.write_table("bands", bands.astype({"value": float}))
    difference = {"ours": "top_k", "theirs": "random_k", "k": 24, "metric": "reward", "mean": 0.4}
    difference |= {"low": 0.3, "high": 0.5, "n": 3, "above": 3}
    abl.write_table("differences", pd.DataFrame([difference]))
    body = written(tmp_path, abl.path)
    assert "Highest: Top-K at K = 24" in body
    assert "Top-K beats Random-K at 1 of 1 K" in body


def test_an_ablation_without_a_reward_is_told_by_j(
    tmp_path: Path, made_ablation, capsys: pytest.CaptureFixture[str]
):
    run = made_ablation(tmp_path / "a")
    rows = [
        {"arm": "top_k", "k": 24, "value": None, "collapsed": 0, "metric": metric, "mean": mean,
         "low": None, "high": None, "n": 1}
        for metric, mean in (("reward", None), ("objective", -0.682))
    ]  # fmt: skip
    run.write_table(
        "bands", pd.DataFrame(rows).astype(dict.fromkeys(("value", "mean", "low", "high"), float))
    )
    columns = ["ours", "theirs", "k", "metric", "mean", "low", "high", "n", "above"]
    run.write_table("differences", pd.DataFrame(columns=columns))
    j = {"mean": -0.693, "low": None, "high": None, "n": 1}
    told = {"original": {"objective": j}, "bands": rows[1:], "differences": []}
    (run.path / "report.json").write_text(json.dumps(run.report() | told))
    report.show(run)
    shown = capsys.readouterr().out
    assert "The original model's J ↑: -0.693." in shown
    assert "-0.682" in shown
    assert "Highest: Top-K at K = 24, -0.682" in written(tmp_path, run.path).replace("\\u002d", "-")


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path):
    runs = [finished_run(tmp_path / side, "mine", model=False) for side in "ab"]
    assert list(named(runs)) == [str(run.path.resolve()) for run in runs]
    assert list(named(runs[:1])) == ["mine"]


def test_a_cell_says_what_becomes_of_its_text():
    assert text_cell("a", "shown") == '<td class="text">a</td>'
    assert "blur" in text_cell("a", "blurred")
    assert "a" not in re.sub("<.*?>", "", text_cell("xyz", "omitted")).replace("left out", "")


def test_words_are_marked_in_both_texts():
    old, new = word_diff("I do not care.", "I am happy to help.", ("#fff", "#000"))
    assert old == 'I <del style="background:#fff">do not care.</del>'
    assert new == 'I <ins style="background:#000">am happy to help.</ins>'
    assert word_diff("", "", ("#fff", "#000")) == ("", "")
    assert json.dumps(word_diff("a\nb", "a\nb", ("#fff", "#000"))) == '["a\\nb", "a\\nb"]'


def test_texts_of_an_arm_are_blurred_where_the_workbench_blurs_its_set(tmp_path: Path):
    demo = Run.create(tmp_path / "d1", "demo", Run.open(SHIPPED / "demo-npo-u2a").settings())
    arm = finished_run(demo.path / "arms", "npo-u2a", model=False)
    demo.write_report({"command": "demo", "seconds": 1.0})
    write_json(tmp_path / ".blurred.json", {arm.report()["data"]["negatives_sha256"]: True})
    for words in (demo.path, arm.path, demo.path / "arms"):
        assert 'class="blur"' in written(tmp_path, words)


def test_a_damaged_run_is_told_and_the_table_of_the_others_stands(tmp_path: Path):
    for name in ("first", "second", "third"):
        finished_run(tmp_path, name, model=False)
    config = json.loads((tmp_path / "third" / "config.json").read_text())
    config["settings"]["inner"]["method"] = "nope"
    write_json(tmp_path / "third" / "config.json", config)
    body = written(tmp_path, tmp_path)
    assert "third is damaged" in body
    assert "What differs between the runs" in body
    assert "<h2>first</h2>" in body
    assert "Reward-V ↑" in body


def unmoved(tmp_path: Path) -> Run:
    """A finished run that kept no step: its replies are those of before."""
    run = finished_run(tmp_path, "mine", model=False)
    table = run.table("generations")
    same = {f"{column}_after": table[f"{column}_before"] for column in ("reply", "reward")}
    run.write_table("generations", table.assign(**same))
    objective = {"before": -0.693, "after": -0.693}
    run.write_report(run.report() | {"steps": 0, "objective": objective})
    return run


def test_a_run_that_kept_no_step_says_so_in_file_and_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = unmoved(tmp_path)
    body = written(tmp_path, run.path)
    assert "none of 30 steps kept, as none raised J above -0.693" in body
    assert "replies are the same in both" in body
    assert "Largest weights" not in body
    capsys.readouterr()
    assert main(["report", str(run.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "none of 30 steps kept" in said
    assert "are the same before and after" in said
    assert "Replies before and after" not in said


def test_ranks_that_are_left_out_of_a_gains_table_are_marked(capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(SHIPPED / "demo-gains")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("…" in line.split() and len(line.split()) == 1 for line in
               (line.replace("│", " ") for line in lines))  # fmt: skip


def test_colons_in_texts_are_no_emoji_in_the_terminal(tmp_path: Path, capsys):
    run = finished_run(tmp_path, "mine", model=False)
    run.write_table("generations", run.table("generations").assign(reply_after=":smile:"))
    assert main(["report", str(run.path)]) == 0
    assert ":smile:" in capsys.readouterr().out
