"""Compare without a browser: every state, settings, replies, votes, own prompts, blur."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pages import opened, run_in
from streamlit.testing.v1 import AppTest
from workbench import finished_run

from app import replies, vote
from u2a_core import table
from u2a_core.config import override
from u2a_core.report.words import changed_words
from u2a_core.runs import Run, Workspace
from u2a_core.runs.files import write_json
from u2a_core.runs.votes import Ballot
from u2a_core.tryout import Desk


def said(app: AppTest) -> str:
    found = [*app.caption, *app.markdown, *app.info, *app.warning, *app.error]
    return " ".join(element.value.replace("\\", "") for element in found)


def bodies(app: AppTest) -> str:
    """What stands on the page as HTML."""
    return " ".join(str(element.proto) for element in app.get("html"))


def labels(app: AppTest) -> set[str]:
    downloads = {element.proto.label for element in app.get("download_button")}
    return downloads | {button.label for button in app.button}


def viewed(view: str, **address: str) -> AppTest:
    app = opened("compare", **address)
    app.segmented_control("view").set_value(view).run()
    assert not app.exception, app.exception[0].message
    assert "cannot be shown" not in said(app)
    return app


def other_settings(folder: Path, *words: str) -> Run:
    """A second finished run, with some settings of its own."""
    first = finished_run(folder, "first", model=False)
    run = Run.create(folder / "second", "reweight", override(first.settings(), list(words)))
    for name in ("history", "weights", "generations"):
        run.write_table(name, first.table(name))
    run.write_report(first.report())
    return run


def test_the_page_stands_in_the_order_of_its_questions(folder: Path):
    app = opened("compare", a="demo-npo-uniform", b="demo-npo-u2a")
    assert [box.label for box in app.selectbox][:2] == ["A", "B"]
    assert "Reward-V ↑" in app.table[0].value.columns
    assert {"CSV", "JSON", "LaTeX", "Markdown", "HTML report"} <= labels(app)
    assert "Sampled at temperature 1 with seed 0, the same for both." in said(app)
    assert not folder.exists()


def test_only_settings_that_differ_are_shown_and_all_are_one_click_away(folder: Path):
    other_settings(folder, "--inner.steps", "7", "--seed", "3")
    app = opened("compare", a="first", b="second")
    assert "2 settings differ between A and B" in str([e.label for e in app.expander])
    shown = app.dataframe[0].value
    assert shown.to_numpy().tolist() == [["inner.steps", "30", "7"], ["seed", "0", "3"]]
    app.toggle("only_differences").set_value(False).run()
    assert len(app.dataframe[0].value) > 80
    assert "A was sampled at temperature 1 with seed 0" in said(app)
    assert "Settings of B" in str([e.label for e in opened("compare", b="second").expander])


@pytest.mark.parametrize(
    ("words", "lacks", "links"),
    [
        (
            ["--objective.kind", "preference", "--objective.reward", ""],
            "a reward",
            ["Name a reward on Model"],
        ),
        (["--data.prompts", ""], "test prompts", ["Name test prompts on Data"]),
    ],
)
def test_without_rewards_it_is_told_what_lacks_and_where_it_is_named(
    folder: Path, words: list[str], lacks: str, links: list[str]
):
    shipped = Workspace(folder).find("demo-npo-u2a")
    run = Run.create(folder / "mine", "reweight", override(shipped.settings(), words))
    for name in ("history", "weight_path", "weights"):
        run.write_table(name, shipped.table(name))
    unscored = dict.fromkeys(("reward_before", "reward_after"))
    run.write_table("generations", shipped.table("generations").assign(**unscored))
    run.write_report(shipped.report() | {"reward": {}})
    app = opened("compare", a="original", b="mine")
    assert f"B was made without {lacks}, so there is no table" in said(app)
    found = [element.proto.label for element in app.get("page_link")]
    assert [label for label in found if label.startswith("Name ")] == links


def test_the_same_run_on_both_sides_is_told(folder: Path):
    app = opened("compare", a="demo-npo-u2a", b="demo-npo-u2a")
    assert "A and B are the same run" in said(app)
    assert "All replies are the same." in said(app)
    assert "nothing to vote on" in said(viewed("Blind vote", a="demo-npo-u2a", b="demo-npo-u2a"))


def test_sides_are_swapped_unless_one_is_the_original(folder: Path):
    app = opened("compare", a="demo-npo-uniform", b="demo-npo-u2a")
    app.button("swap").click().run()
    assert (app.selectbox("side_a").value, app.selectbox("side_b").value) == (
        "demo-npo-u2a", "demo-npo-uniform",
    )  # fmt: skip
    assert opened("compare", b="demo-npo-u2a").button("swap").disabled


def pairs() -> pd.DataFrame:
    ours = pd.DataFrame(
        {
            "prompt_index": [0, 0, 1, 2], "sample": [0, 1, 0, 0],
            "prompt": ["Red. <b>", "Red. <b>", "Green (x)", "Blue"],
            "reply_before": ["a", "a b", "c", "same"], "reply_after": ["b", "b", "c d e", "same"],
            "reward_before": [0.0, 0.0, 1.0, 0.0], "reward_after": [1.0, 0.5, -1.0, 0.0],
        }
    )  # fmt: skip
    return table.paired(None, ours)


def test_replies_are_sorted_and_searched():
    made = pairs()
    order = {o: list(replies.ordered(made, o).index) for o in (
        replies.RISE, replies.FALL, replies.LONGEST, replies.PROMPT,
    )}  # fmt: skip
    assert order[replies.RISE] == [2, 0, 1, 3]
    assert order[replies.FALL] == [2, 3, 1, 0]
    assert order[replies.LONGEST] == [0, 2, 1, 3]
    assert order[replies.PROMPT] == [0, 1, 2, 3]
    assert changed_words("a b c", "c a d d") == 3
    assert list(replies.searched(made, "green (").index) == [2]
    assert list(replies.searched(made, "<B>").index) == [0, 1]
    assert len(replies.searched(made, " ")) == 4


def test_arrows_go_through_the_replies_and_a_search_begins_anew(folder: Path):
    app = opened("compare", b="demo-npo-u2a")
    assert "1 to 5 of" in said(app)
    assert app.button("replies_previous").disabled
    app.button("replies_next").click().run()
    assert "6 to 10 of" in said(app)
    app.text_input("search").set_value("flat tire").run()
    assert "1 to 5 of" in said(app)
    assert "flat tire" in bodies(app)
    app.text_input("search").set_value("no such words").run()
    assert "No reply is left" in said(app)


def test_one_pair_of_differing_replies_a_prompt_is_voted_on():
    assert list(vote.items(pairs())) == [(0, 0), (1, 0)]
    assert vote.items(pd.DataFrame()) == {}


def test_a_vote_is_blind_kept_counted_and_deleted(folder: Path):
    app = viewed("Blind vote", b="demo-npo-u2a")
    app.button("vote_begin").click().run()
    ballot = Ballot(folder / ".annotations" / "demo-npo-u2a", "original", "demo-npo-u2a")
    made = Workspace(folder).find("demo-npo-u2a").table("generations")
    differing = made[made["reply_before"] != made["reply_after"]]["prompt"].nunique()
    told = " ".join(str(e.proto) for e in app.get("progress"))
    assert f"0 of {differing} prompts" in told
    assert "reward -1.00" not in said(app)
    assert "<ins" not in bodies(app)
    for choice in ("left", "right", "tie", "skip"):
        next(b for b in app.button if (b.key or "").startswith(f"vote_{choice}_")).click().run()
    assert [v.choice for v in ballot.votes()] == ["left", "right", "tie", "skip"]
    assert "B preferred" not in {metric.label for metric in app.metric}
    app = viewed("Blind vote", b="demo-npo-u2a")  # as after a reload
    app.toggle[-1].set_value(True).run()
    numbers = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert numbers["Ties"] == ("1", "1 skipped")
    wins = [v.winner for v in ballot.votes()].count("b")
    assert numbers["B preferred"][0] == f"{wins / 2:.0%}"
    assert "n = 2" in numbers["B preferred"][1]
    assert "n = " in numbers["Agrees with the reward"][1] or (
        numbers["Agrees with the reward"][1] == "no vote that counts"  # both between equal rewards
    )
    assert {"CSV", "JSON"} <= labels(app)
    app.button("vote_delete").click().run()
    assert not ballot.file.exists()
    assert "Begin the vote" in labels(app)


def test_back_changes_a_vote(folder: Path):
    finished_run(folder, "mine", model=False)
    app = viewed("Blind vote", b="mine")
    app.button("vote_begin").click().run()
    assert app.button("vote_back").disabled
    for choice in ("left", "tie"):
        next(b for b in app.button if (b.key or "").startswith(f"vote_{choice}_")).click().run()
    app.button("vote_back").click().run()
    app.button("vote_back").click().run()
    next(b for b in app.button if (b.key or "").startswith("vote_right_")).click().run()
    ballot = Ballot(Workspace(folder).annotations(Run(folder / "mine")), "original", "mine")
    assert [v.choice for v in ballot.votes()] == ["right", "tie"]


def test_a_vote_on_a_run_that_was_deleted_is_told_and_leaves_no_folder(folder: Path):
    finished_run(folder, "mine", model=False)
    app = viewed("Blind vote", b="mine")
    shutil.rmtree(folder / "mine")
    app.button("vote_begin").click().run()
    assert not app.exception
    assert "mine is no run of this workspace" in said(app)
    assert not (folder / "mine").exists()


def test_a_damaged_table_hides_neither_results_nor_rewards(folder: Path):
    run = finished_run(folder, "mine", model=False)
    (run.path / "tables" / "generations.parquet").write_text("no table")
    for view in ("Replies side by side", "Blind vote"):
        app = viewed(view, b="mine")
        assert "must be a whole table" in said(app)
        assert "Reward-V ↑" in app.table[0].value.columns
        assert "Rewards" in {heading.value for heading in app.subheader}


def test_runs_of_other_prompts_are_not_set_side_by_side(folder: Path):
    run = finished_run(folder, "mine", model=False)
    own = run.table("generations")
    run.write_table("generations", own.assign(prompt="another " + own["prompt"]))
    app = opened("compare", a="mine", b="demo-npo-u2a")
    assert "no test prompts in common" in said(app)


@pytest.mark.parametrize("state", ["empty", "running", "failed"])
def test_what_cannot_be_compared_yet_is_a_sentence(folder: Path, state: str):
    if state != "empty":
        run_in(folder, state)
    app = opened("compare", **({} if state == "empty" else {"b": "mine"}))
    if state != "empty":
        assert f"nothing to compare yet: it is {state}" in said(app)
    assert Workspace(folder).find(app.selectbox("side_b").value).finished


def test_a_shipped_run_says_how_to_make_it_reply(folder: Path, monkeypatch):
    from u2a_core import jobs

    monkeypatch.setattr(jobs, "_begin", lambda run, *_: run.lock.assign(os.getpid()))
    app = viewed("Your own prompt", a="demo-npo-uniform", b="demo-npo-u2a")
    assert "ships with its tables, but without its model" in said(app)
    assert "Send" not in labels(app)
    app.button("try_run_demo-npo-u2a").click().run()
    (run,) = Workspace(folder).runs()
    assert run.settings() == Workspace(folder).find("demo-npo-u2a").settings()
    run.write_report(Workspace(folder).find("demo-npo-u2a").report())
    app.run()
    app.button(f"try_use_{run.path.name}").click().run()
    assert app.selectbox("side_b").value == run.path.name


def test_a_prompt_is_asked_streamed_stopped_and_kept(folder: Path, monkeypatch):
    monkeypatch.setattr("app.tryout.launch", lambda desk, **_: desk.lock.assign(os.getpid()))
    finished_run(folder, "mine", model=True)
    app = viewed("Your own prompt", b="mine")
    send = next(b for b in app.button if b.label == "Send")
    send.click().run()
    assert "Write a prompt first" in said(app)
    app.text_area("try_prompt").set_value("Hi <b>you</b> [x](y)")
    app.number_input("try_tokens").set_value(9)
    next(b for b in app.button if b.label == "Send").click().run()
    desk = Desk(folder)
    (asked,) = desk.tries()
    assert (asked.max_new_tokens, asked.temperature, asked.seed) == (9, 1.0, 0)
    assert [(s.title, s.original) for s in asked.sides] == [("A", True), ("B", False)]
    desk.write(asked, note="loading A")
    app.run()
    assert "loading A (original)" in said(app)
    assert next(b for b in app.button if b.label == "Send").disabled
    desk.write(asked, side=0, text="<script>1</script>", ended="length")
    desk.write(asked, side=1, error="B must have kept its model; it is gone.")
    app.button(f"try_stop_{asked.id}").click().run()
    assert desk.stopped(asked)
    desk.write(asked, note="Stopped.", done=True)
    app = viewed("Your own prompt", b="mine")
    assert "&lt;script&gt;1" in bodies(app)
    assert "cut at the most tokens" in said(app)
    assert "must have kept its model" in said(app)
    exports = next(e for e in app.get("download_button") if e.proto.label == "JSON")
    assert exports
    app.button("tries_clear").click().run()
    assert desk.tries() == []


def test_a_process_that_died_is_told_with_its_log(folder: Path, monkeypatch):
    def launch(desk: Desk, **_: object) -> None:
        desk.lock.assign(99_999_999)
        (desk.folder / "log.txt").write_text("RuntimeError: odd\n")

    monkeypatch.setattr("app.tryout.launch", launch)
    finished_run(folder, "mine", model=True)
    app = viewed("Your own prompt", b="mine")
    app.text_area("try_prompt").set_value("Hi")
    next(b for b in app.button if b.label == "Send").click().run()
    assert "ended without a word" in said(app)
    assert "RuntimeError: odd" in [code.value for code in app.code]


def test_the_blur_of_a_set_holds_on_every_view(folder: Path):
    run = finished_run(folder, "mine", model=True)
    app = opened("compare", b="mine")
    assert "u2a-text u2a-blur" not in bodies(app)
    app.toggle("blur_compare").set_value(True).run()
    assert bodies(app).count("u2a-text u2a-blur") == 15
    assert Workspace(folder).blurs(run)
    app.segmented_control("view").set_value("Blind vote").run()
    app.button("vote_begin").click().run()
    assert bodies(app).count("u2a-text u2a-blur") == 3
    assert Workspace(folder).blurs(Workspace(folder).find("demo-npo-u2a"))  # of the same set


def test_a_blur_that_cannot_be_kept_holds_in_the_tab_and_is_told(folder: Path):
    finished_run(folder, "mine", model=False)
    (folder / ".blurred.json").mkdir()  # in the place of the file
    app = opened("compare", b="mine")
    app.toggle("blur_compare").set_value(True).run()
    assert not app.exception
    assert "must be writable" in said(app)
    assert "u2a-text u2a-blur" in bodies(app)
    assert app.toggle("blur_compare").value
    assert "must be writable" not in said(app.run())


def settings_of_another_version(run: Run) -> None:
    config = run.config()
    config["settings"]["inner"]["method"] = "nope"
    write_json(run.path / "config.json", config)


def report_with_a_number_for_a_reward(run: Run) -> None:
    write_json(run.path / "report.json", run.report() | {"reward": 5})


def packages_as_a_list(run: Run) -> None:
    write_json(run.path / "config.json", run.config() | {"packages": ["x"]})


@pytest.mark.parametrize("damage", [settings_of_another_version, report_with_a_number_for_a_reward])
def test_a_damaged_run_is_left_out_of_the_comparison_of_others(folder: Path, damage):
    for name in ("first", "second", "third"):
        finished_run(folder, name, model=False)
    damage(Run(folder / "third"))
    app = opened("compare", a="first", b="second")
    assert "Reward-V ↑" in app.table[0].value.columns
    assert "Left out, because damaged: third" in said(app)
    assert "Rewards" in {heading.value for heading in app.subheader}
    assert not app.error
    assert "third is damaged" in said(opened("compare", b="third"))


def test_packages_that_are_no_table_hide_no_settings(folder: Path):
    packages_as_a_list(finished_run(folder, "mine", model=False))
    assert not opened("compare", b="mine").error


def test_a_damaged_evaluation_is_left_out(folder: Path):
    run = finished_run(folder, "mine", model=False)
    words = ["--evaluation.target", str(run.path)]
    Run.create(folder / "bad", "evaluate", override(run.settings(), words)).write_report(
        {"command": "evaluate", "metrics": [1], "missing": {}, "target": "x", "seconds": 1.0}
    )
    app = opened("compare", b="mine")
    assert "Left out, because damaged: bad" in said(app)
    assert "Reward-V ↑" in app.table[0].value.columns
