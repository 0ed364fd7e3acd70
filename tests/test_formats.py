"""Formats of known data sets and tools: recognized, read by stated rules, named by a setting."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from formats import BAD, CASES, DIALOGUE, GOOD, Case, Q, bot, rated, safer, user

from u2a_core.config import load_settings, override, parse_settings
from u2a_core.data import (
    CHOICES,
    FORMATS,
    DataReport,
    as_record,
    inspect_data,
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    write_records,
)
from u2a_core.errors import ConfigError, DataError
from u2a_core.reproduce import Split, split_pairs
from u2a_core.types import prompt_text

REAL = Path(__file__).resolve().parents[2] / "shared" / "examples" / "data"
LOADERS = {
    "negatives": lambda path, **how: load_negatives(path, **how).samples,
    "retain": lambda path, **how: load_retain(path, **how)[0],
    "preferences": lambda path, **how: load_preferences(path, **how)[0],
    "prompts": lambda path, **how: load_prompts(path, **how)[0],
}
ids = [f"{case.name}-{i}" for i, case in enumerate(CASES)]


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def report(role: str, file: str, **data: Any) -> DataReport:
    """What is told of one set's file."""
    settings = parse_settings({"data": {role: file, **data}}, source="here").data
    return next(found for found in inspect_data(settings).files if found.role == role)


def held(role: str, file: str, **how: Any) -> list[Any]:
    """What a loader makes of a file, as texts; nothing where it says that nothing is usable."""
    try:
        found = LOADERS[role](file, **how)
    except DataError as error:
        assert "must hold usable records; got none" in str(error)
        return []
    if role == "prompts":
        return [prompt_text(prompt) for prompt in found]
    if role == "preferences":
        return [(pair.chosen, pair.rejected) for pair in found]
    return [(prompt_text(sample.prompt), sample.response) for sample in found]


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_every_format_gives_what_it_holds_to_each_set(tmp_path: Path, case: Case):
    file = lines(tmp_path / "x.jsonl", *case.rows)
    how = {"columns": {"format": case.name}}
    assert held("negatives", file, **how) == case.negatives
    assert held("retain", file, **how) == case.retain
    assert held("preferences", file, **how) == case.pairs
    assert held("prompts", file, **how) == case.prompts


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_every_format_is_recognized(tmp_path: Path, case: Case):
    if case.name == "pku-saferlhf-helpful":  # the same file, by another of its columns
        return
    found = report("prompts", lines(tmp_path / "x.jsonl", *case.rows))
    assert (found.format, found.title) == (case.name, FORMATS[case.name].title)
    assert found.usable == len(case.prompts)
    assert set(found.reads) <= set(found.columns)


def test_there_is_a_case_of_every_format_and_a_row_of_the_documentation():
    assert {case.name for case in CASES} == set(FORMATS) == set(CHOICES)
    told = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"| `{name}` |" in told, name


def test_the_formats_cells_may_stand_in_a_csv(tmp_path: Path):
    for case in CASES:
        if any(isinstance(v, list | dict) for row in case.rows for v in row.values()):
            continue  # no CSV holds these
        text = io.StringIO()
        table = csv.DictWriter(text, case.rows[0])
        table.writeheader()
        table.writerows(case.rows)
        file = tmp_path / f"{case.name}.csv"
        file.write_text(text.getvalue())
        how = {"columns": {"format": case.name}}
        assert held("negatives", str(file), **how) == case.negatives
        assert held("preferences", str(file), **how) == case.pairs


def test_kinds_are_the_categories_and_ids_tell_the_replies_of_a_record_apart(tmp_path: Path):
    harmful = {"response_0_harm_category": {"Drugs": True, "Rudeness": True, "Violence": False}}
    both = safer(id="r1", is_response_1_safe=False, **harmful)
    found = load_negatives(lines(tmp_path / "x.jsonl", both)).samples
    assert [(s.id, s.kind) for s in found] == [("r1.0", "Drugs, Rudeness"), ("r1.1", "")]


def test_a_file_has_the_format_of_most_of_its_records(tmp_path: Path):
    rows = [{"question": Q, "answer": str(i)} for i in range(3)]
    mixed = [safer(), *rows, {"messages": [user(Q), bot(BAD)]}, {"odd": 1}]
    found = report("negatives", lines(tmp_path / "x.jsonl", *mixed))
    assert (found.format, found.usable) == ("question-answer", 4)  # usual columns are read, too
    assert [fault.line for fault in found.faults] == [1, 6]
    other = report(
        "negatives", lines(tmp_path / "y.jsonl", *rows[:1], *[safer(id=i) for i in "ab"])
    )
    assert (other.format, [fault.line for fault in other.faults]) == ("pku-saferlhf", [1])
    assert other.faults[0].reason.startswith("has no column prompt, which PKU-SafeRLHF")


def test_a_format_is_named_in_yaml_and_on_the_command_line(tmp_path: Path, u2a):
    file = lines(tmp_path / "x.jsonl", safer())
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"data": {"negatives": file, "preferences": file}}))
    words = ["--data.formats.preferences", "pku-saferlhf-helpful"]
    told = [json.loads(u2a("data", "--json", *w, config=config)[1])["files"] for w in ([], words)]
    assert [files[1]["format"] for files in told] == ["pku-saferlhf", "pku-saferlhf-helpful"]
    previews = [files[1]["preview"] for files in told]
    assert previews == [[f"{Q} → {GOOD} → {BAD}"], [f"{Q} → {BAD} → {GOOD}"]]
    kept = override(load_settings(config), words).data.columns_of("preferences")
    assert kept == {"format": "pku-saferlhf-helpful"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"formats": {"negatives": "pku"}}, "formats.negatives"),
        ({"formats": {"negativs": "alpaca"}}, "formats.negativs"),
        ({"formats": {"negatives": "alpaca"}, "columns": {"negatives": {"prompt": "a"}}},
         "negatives must have a format or columns of its own; got both"),
        ({"columns": {"negatives": {"format": "alpaca"}}}, "got format"),
    ],
)  # fmt: skip
def test_a_wrong_format_is_a_sentence(data: Any, told: str):
    with pytest.raises(ConfigError, match=told):
        parse_settings({"data": data}, source="x.yaml")


def test_id_and_kind_are_named_beside_a_format(tmp_path: Path):
    row = {"key": 7, "sort": "rude", "instruction": Q, "output": BAD}
    file = lines(tmp_path / "x.jsonl", row)
    named = {"id": "key", "kind": "Sort"}
    found = report("negatives", file, formats={"negatives": "alpaca"}, columns={"negatives": named})
    assert [(row.id, row.kind) for row in found.rows] == [("7", "rude")]
    assert found.recognized["id"] == "key"


def test_a_format_that_the_file_has_not_is_told(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"prompt": Q, "response": BAD})
    found = report("negatives", file, formats={"negatives": "beavertails"})
    assert "has no column is_safe, which BeaverTails has" in found.error
    assert found.columns == ("prompt", "response")
    with pytest.raises(DataError, match="has no column question, which is named for the prompt"):
        load_negatives(file, columns={"format": "question-answer"})


@pytest.mark.parametrize(
    ("rows", "role", "reason"),
    [
        ([safer(is_response_0_safe=True)], "negatives", "no reply is marked as unsafe"),
        ([safer(safer_response_id=0)], "preferences", "names the reply that is marked as unsafe"),
        ([safer(safer_response_id=None)], "preferences", r"names no reply"),
        ([{"prompt": Q, "chosen": GOOD, "rejected": BAD, "score_chosen": 5, "score_rejected": 5}],
         "preferences", "have the same score"),
        ([{"prompt": Q, "chosen": GOOD, "rejected": BAD, "score_chosen": 4, "score_rejected": 5}],
         "negatives", "a lower score than rejected"),
        ([{"question": Q, "chosen": GOOD, "rejected": BAD, "chosen-rating": 2,
           "rejected-rating": 5}], "negatives", "a lower score than rejected"),
        ([{"chosen": [user(Q), bot(GOOD)], "rejected": [user(Q), bot(BAD)], "chosen_rating": "4.0",
           "rejected_rating": "4.0"}], "negatives", "have the same score"),
        ([{"chosen": DIALOGUE + GOOD, "rejected": f"\n\nHuman: Other?\n\nAssistant: {BAD}"}],
         "preferences", "answer different prompts"),
        ([{"chosen": [user(Q), bot(GOOD)], "rejected": [user("Other?"), bot(BAD)]}],
         "preferences", "answer different prompts"),
        ([{"prompt": Q, "completion": GOOD, "label": True}], "negatives", "a good one by label"),
        ([rated((5, GOOD), (5.0, BAD))], "negatives", "all replies have the same overall_score"),
        ([rated((5, GOOD), (None, BAD))], "retain", "fewer than two replies with an overall_score"),
        ([rated()], "preferences", "fewer than two replies with an overall_score"),
    ],
)  # fmt: skip
def test_what_a_rule_leaves_out_is_counted_and_explained(
    tmp_path: Path, rows: list[dict], role: str, reason: str
):
    found = report(role, lines(tmp_path / "x.jsonl", *rows))
    assert reason in found.error
    (why,) = found.reasons
    assert (why.outcome, why.records, why.line, found.faulty) == ("left out", 1, 1, 0)


def test_a_pair_without_a_shared_prompt_still_gives_its_samples(tmp_path: Path):
    row = {"chosen": DIALOGUE + GOOD, "rejected": f"\n\nHuman: Other?\n\nAssistant: {BAD}"}
    file = lines(tmp_path / "x.jsonl", row)
    assert held("negatives", file) == [("Other?", BAD)]
    assert held("retain", file) == [(f"Hello\nHi.\n{Q}", GOOD)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": Q, "chosen": GOOD, "rejected": GOOD}, "chosen and rejected are identical"),
        ({"prompt": Q, "chosen": GOOD, "rejected": f"{GOOD} "}, "are identical"),
        ({"chosen": DIALOGUE + GOOD, "rejected": DIALOGUE + GOOD}, "are identical"),
        ({"prompt": DIALOGUE, "chosen": GOOD, "rejected": f" {GOOD}"}, "are identical"),
        ({"prompt": DIALOGUE, "chosen": GOOD, "rejected": " "}, "rejected is empty"),
        ({"prompt": Q, "chosen": GOOD, "rejected": " "}, "rejected is empty"),
        ({"prompt": Q, "response": None}, "response is empty"),
        ({"prompt": Q, "response": float("nan")}, "response is empty"),
        ({"prompt": Q, "response": 7}, "response must be text, got int"),
        ({"prompt": Q, "response": BAD, "system": ["a"]}, "system must be text, got list"),
        ({"messages": [{"role": "system", "content": ""}]}, "messages must be a list of turns"),
        (rated((1, ""), (2, GOOD)), "response of completion 1 is empty"),
        (rated((1, BAD), (2, BAD)), "chosen and rejected are identical"),
        (rated((1, BAD)) | {"completions": [BAD, GOOD]}, "a completion must have response and"),
        ({"chosen": f"{Q} {GOOD}", "rejected": f"{Q} {GOOD}"}, "are identical"),
        ({"chosen": GOOD, "rejected": BAD}, "share no beginning that could be it"),
        ({"chosen": "Eggs", "rejected": "Eggplants"}, "share no beginning that could be it"),
        ({"chosen": f"{Q} {GOOD}", "rejected": f"{Q} "}, "rejected is empty"),
        ({"chosen": DIALOGUE + GOOD, "rejected": DIALOGUE}, "content is empty"),
        ({"chosen": "Human: a", "rejected": "Human: b"}, "must end with a turn of the Assistant"),
        (safer(response_0="", id="a"), "response_0 is empty"),
        ({"prompt": Q, "response": BAD, "is_safe": "perhaps"}, "is_safe must be true or false"),
        ({"instruction": Q, "output": BAD, "history": [["one"]]}, "history must hold pairs"),
        ({"question": Q, "mc1_targets": {"choices": "a", "labels": [1]}}, "choices and labels"),
        ({"prompt": Q, "response": BAD, "id": ["a"]}, "id must be text or a number, got list"),
    ],
)
def test_what_lacks_something_is_a_fault_of_its_line(tmp_path: Path, row: dict, reason: str):
    found = report("negatives", lines(tmp_path / "x.jsonl", row))
    assert (found.usable, [fault.line for fault in found.faults]) == (0, [1])
    assert reason in found.faults[0].reason


def test_one_faulty_reply_of_a_record_does_not_spoil_the_other(tmp_path: Path):
    rows = [safer(is_response_1_safe=False, response_1="")]
    found = report("negatives", lines(tmp_path / "x.jsonl", *rows))
    assert (found.usable, found.faulty) == (1, 1)


def test_the_turns_before_a_reply_tell_more_than_a_text_beside_them(tmp_path: Path):
    turns = [user("Hello"), bot("Hi."), user(Q)]
    row = {"prompt": "Hello", "chosen": [*turns, bot(GOOD)], "rejected": [*turns, bot(BAD)]}
    assert held("negatives", lines(tmp_path / "x.jsonl", row)) == [(f"Hello\nHi.\n{Q}", BAD)]


SYSTEM = "Be brief."


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": Q, "response": BAD},
        {"question": Q, "chosen": GOOD, "rejected": BAD},
        {"prompt": [user(Q)], "chosen": [bot(GOOD)], "rejected": [bot(BAD)]},
        {"chosen": [user(Q), bot(GOOD)], "rejected": [user(Q), bot(BAD)]},
        {"prompt": Q, "chosen": GOOD, "rejected": BAD, "score_chosen": 2, "score_rejected": 1},
        {"question": Q, "chosen": GOOD, "rejected": BAD, "rating_chosen": 2, "rating_rejected": 1},
        {"messages": [user(Q), bot(BAD)]},
        {"conversations": [user(Q), bot(BAD)]},
        {"conversations": [user(Q)], "chosen": bot(GOOD), "rejected": bot(BAD)},
        {"instruction": Q, "output": BAD},
        {"instruction": Q, "chosen": GOOD, "rejected": BAD},
        {"prompt": Q, "completion": BAD, "label": False},
    ],
    ids=" ".join,
)
def test_a_column_of_system_messages_comes_before_every_prompt(tmp_path: Path, row: dict):
    file = lines(tmp_path / "x.jsonl", {"system": SYSTEM, **row})
    assert held("negatives", file) == [(f"{SYSTEM}\n{Q}", BAD)]
    assert held("prompts", file) == [f"{SYSTEM}\n{Q}"]
    if "chosen" in row:
        (pair,) = load_preferences(file)[0]
        assert [turn.role for turn in pair.prompt] == ["system", "user"]
    found = report("negatives", file)
    assert (found.reads["system"], found.unread) == ("system message", ())


def test_a_system_message_of_the_conversation_itself_comes_first(tmp_path: Path):
    own = [{"role": "system", "content": "Cook."}, user(Q), bot(BAD)]
    for column in ("messages", "conversations"):
        file = lines(tmp_path / "x.jsonl", {"system": SYSTEM, column: own})
        assert held("negatives", file) == [(f"Cook.\n{Q}", BAD)]


def test_a_column_system_that_is_named_for_something_else_is_that(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"prompt": Q, "system": BAD})
    named = {"prompt": "prompt", "response": "system"}
    assert held("negatives", file, columns=named) == [(Q, BAD)]


@pytest.mark.parametrize("nothing", ["", " ", None])
def test_an_empty_system_message_is_none(tmp_path: Path, nothing: str | None):
    turns = [{"role": "system", "content": nothing}, user(Q), bot(BAD)]
    for row in ({"messages": turns}, {"system": nothing, "prompt": Q, "response": BAD}):
        assert held("negatives", lines(tmp_path / "x.jsonl", row)) == [(Q, BAD)]


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"prompt": Q, "response": BAD, "Label": "rude", "": 0}, ("Label", "")),
        ({"prompt": Q, "chosen": GOOD, "rejected": BAD, "margin": 1}, ("margin",)),
        ({"prompt": Q, "response": BAD, "is_safe": False, "harm": 1}, ("harm",)),
        ({"conversations": [user(Q), bot(BAD)], "label": "rude"}, ("label",)),
        ({"prompt": Q, "response": BAD, "id": "a", "kind": "b"}, ()),
    ],
)
def test_columns_that_no_set_reads_are_told(tmp_path: Path, row: dict, unread: tuple):
    file = lines(tmp_path / "x.jsonl", row)
    assert report("negatives", file).unread == report("prompts", file).unread == unread


def test_the_columns_that_are_not_read_stand_in_the_terminal(tmp_path: Path, u2a):
    more = {f"column {i}": i for i in range(20)}
    row = {"prompt": Q, "response": BAD, "": 0, **more}
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"data": {"negatives": lines(tmp_path / "x.jsonl", row)}}))
    _, out, _ = u2a("data", config=config)
    assert "  not read: one without a name, column 0, column 1," in out
    assert "column 10 and 9 more\n" in out
    (told,) = json.loads(u2a("data", "--json", config=config)[1])["files"]
    assert len(told["unread"]) == 21


@pytest.mark.parametrize("reply", ["output", "chosen"])
def test_an_instruction_or_its_input_may_be_empty(tmp_path: Path, reply: str):
    rest = {"output": BAD} if reply == "output" else {"chosen": GOOD, "rejected": BAD}
    for asked, more in (("", Q), (" ", Q), (None, Q), (Q, ""), (Q, None)):
        row = {"instruction": asked, "input": more, **rest}
        assert held("negatives", lines(tmp_path / "x.jsonl", row)) == [(Q, BAD)]
        assert held("prompts", lines(tmp_path / "y.jsonl", {**row, "x": 1})) == [Q]
        alone = lines(tmp_path / "z.jsonl", {"instruction": asked, "input": more})
        assert held("prompts", alone) == [Q]
    found = report(
        "negatives", lines(tmp_path / "x.jsonl", {"instruction": "", "input": "", **rest})
    )
    assert found.faults[0].reason == "instruction is empty"


def judged(reply: str, safe: bool) -> dict[str, Any]:
    return {"prompt": Q, "response": reply, "category": {}, "is_safe": safe}


@pytest.mark.parametrize(("role", "own", "other"), [("negatives", 1, 3), ("retain", 3, 1)])
def test_a_reply_that_is_marked_as_good_and_as_bad_is_kept_and_told_once(
    tmp_path: Path, role: str, own: int, other: int
):
    rows = [judged(BAD, False), judged(GOOD, True), judged(BAD, True), judged(BAD, False),
            judged(BAD, True), judged("", True), judged("No.", False)]  # fmt: skip
    found = report(role, lines(tmp_path / "x.jsonl", *rows))
    assert (found.usable, found.odd) == ({"negatives": 2, "retain": 3}[role], 1)
    (told,) = [reason for reason in found.reasons if reason.outcome == "kept"]
    assert (told.records, told.line) == (1, own)
    assert "elsewhere in the file, too" in told.reason
    kept: list[Any] = []
    settings = parse_settings({"data": {role: str(tmp_path / "x.jsonl")}}, source="here").data
    inspect_data(settings, remarks=lambda name, _, remark: kept.append((name, remark)))
    (remark,) = [r for name, r in kept if name == role and r.outcome == "kept"]
    assert remark.reason.endswith(f"(line {other})")


def test_verdicts_on_both_replies_of_pairs_may_contradict_each_other(tmp_path: Path):
    rows = [safer(), safer(response_0=GOOD, response_1="Gladly.")]  # the better one is worse there
    found = report("negatives", lines(tmp_path / "x.jsonl", *rows))
    assert (found.usable, found.odd) == (2, 1)
    ranked = [{"prompt": Q, "chosen": a, "rejected": b} for a, b in ((GOOD, BAD), (BAD, "No."))]
    assert report("negatives", lines(tmp_path / "y.jsonl", *ranked)).odd == 0


@pytest.mark.parametrize(
    ("chosen", "rejected", "told"),
    [
        ("The sky is blue.", "The sky is green.", ("The sky is", "blue.", "green.")),
        ("The sky is blue.", "The sky is black.", ("The sky is", "blue.", "black.")),
        (f"{Q}\nYes.\nSurely.", f"{Q}\nYes.", (Q, "Yes.\nSurely.", "Yes.")),
        (f" {Q}  {GOOD}\n", f" {Q}  {BAD}", (Q, GOOD, BAD)),
        ("### Q: Hi\n### A: No", "### Q: Hi\n### A: Hi", ("### Q: Hi\n### A:", "No", "Hi")),
    ],
)
def test_an_implicit_prompt_is_what_both_texts_begin_with_in_whole_words(
    tmp_path: Path, chosen: str, rejected: str, told: tuple[str, ...]
):
    (pair,) = load_preferences(
        lines(tmp_path / "x.jsonl", {"chosen": chosen, "rejected": rejected})
    )[0]
    assert (prompt_text(pair.prompt), pair.chosen, pair.rejected) == told


def test_spoiled_letters_are_counted_and_kept(tmp_path: Path):
    texts = ["It isn\u2019t.", "It isn\u00e2\u20ac\u2122t.", "Caf\u00c3\u00a9.", "Lost: \ufffd.",
             "\u00c9t\u00e9 \u00abX\u00bb, Spa\u00df\u201d, N\u00c3O"]  # fmt: skip
    rows = [{"prompt": f"{i}?", "response": text} for i, text in enumerate(texts)]
    found = report("negatives", lines(tmp_path / "x.jsonl", *rows))
    assert (found.usable, found.odd) == (5, 3)
    told = {reason.reason: (reason.records, reason.line) for reason in found.reasons}
    assert sorted(told.values()) == [(1, 4), (2, 2)]
    assert [row.reply for row in found.rows] == texts


@pytest.mark.parametrize(("text", "odd"), [
    ("Never.<|im_end|>", True), ("<|start_header_id|>user", True), ("[INST] Hi [/INST] No", True),
    ("Never.</s>\n", True), ("<s>Never.", True), ("<start_of_turn>model", True),
    ("an <s>old</s> price", False), ("a[INSTR] <|x|>", False), ("if a < b and b[0]: pass", False),
])  # fmt: skip
def test_marks_of_a_chat_template_are_counted_and_kept(tmp_path: Path, text: str, odd: bool):
    found = report("negatives", lines(tmp_path / "x.jsonl", {"prompt": "Hi?", "response": text},
                                      {"prompt": text, "response": "No."}))  # fmt: skip
    assert (found.usable, found.odd) == (2, 2 * odd)
    said = " ".join(reason.reason for reason in found.reasons)
    assert ("holds marks of a chat template" in said) == odd
    assert [row.reply for row in found.rows] == [text, "No."]


def test_a_file_under_a_wrong_name_with_a_mark_and_odd_headers_is_told(tmp_path: Path):
    file = tmp_path / "x.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({"PROMPT ": Q, "Response": BAD}).encode() * 1
                     + b"\n" + json.dumps({"prompt": Q, "response": GOOD}).encode())  # fmt: skip
    found = report("negatives", str(file))
    assert (found.usable, found.container) == (2, "JSON lines")
    told = " ".join(found.notes)
    assert "JSON lines under the name .json" in told
    assert "byte order mark" in told
    swapped = report("prompts", lines(tmp_path / "y.jsonl", {"Goal": "Sure, here", "Target": Q}))
    assert "another case: Target, Goal" in " ".join(swapped.notes)
    assert "headers swapped" in " ".join(swapped.notes)


@pytest.mark.parametrize("comma", [",", ";", "\t", "|"])
def test_tables_of_other_commas_are_read(tmp_path: Path, comma: str):
    file = tmp_path / "x.csv"
    file.write_text(f'\n\n"prompt"{comma}response\n"a, b; c"{comma}"d\ne"\nf{comma}g\n')
    found = load_negatives(file).samples
    assert [(prompt_text(s.prompt), s.response) for s in found] == [("a, b; c", "d\ne"), ("f", "g")]


@pytest.mark.parametrize("told", ["sep=;", '"sep=;"', "sep=;\r", "sep=,"])
def test_a_first_line_that_names_the_comma_is_no_header(tmp_path: Path, told: str):
    file = tmp_path / "x.csv"
    rows = ["prompt,response", "Hi?,a", 'Ho?,"b,c;d"', "x"]
    text = "\n".join([told, *rows]) + "\n"
    file.write_text(text if "," in told else text.replace("?,", "?;").replace("t,r", "t;r"))
    found = load_negatives(file, on_fault="skip")
    assert [sample.response for sample in found.samples] == ["a", "b,c;d"]
    assert [fault.line for fault in found.faults] == [5]


OPEN = {
    "to the end": (['q1,"He said', "q2,a2", "q3,a3"], {2: 'q1,"He said'}, ["a2", "a3"]),
    "to a later quote": (['q1,"He said', "q2,a2", 'q3,"a3"'], {2: 'q1,"He said'}, ["a2", "a3"]),
    "twice": (
        ['q1,"He said', 'q2,"she', "q3,a3"],
        {2: 'q1,"He said', 3: 'q2,"she'},
        ["a3"],
    ),
    "in the last row": (["q1,a1", 'q2,"He said'], {3: 'q2,"He said'}, ["a1"]),
    "no, it is closed": (
        ['q1,"He said', 'no, ""never"""', "q2,a2"],
        {},
        ['He said\nno, "never"', "a2"],
    ),
    "no, it stands inside": (['q1,He said "no"', "q2,a2"], {}, ['He said "no"', "a2"]),
}


@pytest.mark.parametrize("case", OPEN)
@pytest.mark.parametrize("comma", [",", "\t"])
def test_a_quote_that_is_not_closed_swallows_no_row(tmp_path: Path, case: str, comma: str):
    rows, faults, replies = OPEN[case]
    file = tmp_path / "x.csv"
    text = "\n".join(["prompt,response", *rows]) + "\n"
    file.write_text(text if comma == "," else re.sub(r"^(prompt|q\d),", r"\1\t", text, flags=re.M))
    found = load_negatives(file, on_fault="skip")
    assert [sample.response for sample in found.samples] == replies
    assert [fault.line for fault in found.faults] == list(faults)
    assert all("not closed" in f.reason or "cells" in f.reason for f in found.faults)


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path):
    file = tmp_path / "x.csv"
    file.write_text('prompt,response\nq,"a\n' + "q,b\n" * 30_000)
    with pytest.raises(DataError, match="line 2 that is not closed"):
        load_negatives(file)


def test_a_column_without_a_name_is_no_id(tmp_path: Path):
    file = tmp_path / "x.csv"
    file.write_text(",prompt,response\n0,a,b\n0,c,d\n")  # as pandas writes its index
    assert [(len(s.id), s.kind) for s in load_negatives(file).samples] == [(12, "")] * 2


def test_faults_are_exported_with_what_became_of_each(tmp_path: Path, u2a):
    file = tmp_path / "x.jsonl"
    row = {"prompt": Q, "chosen": GOOD, "rejected": BAD, "score_chosen": 2, "score_rejected": 1}
    tie = {**row, "score_chosen": 1}
    file.write_text("\n".join(map(json.dumps, [row, row, tie, {**row, "rejected": ""}])) + "\n{no")
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"data": {"negatives": str(file)}}))
    for name in ("faults.csv", "faults.jsonl"):
        code, out, _ = u2a("data", "--faults", tmp_path / name, config=config)
        assert code == 0
    assert "1 left out: chosen and rejected have the same score (first: line 3)" in out
    with (tmp_path / "faults.csv").open(newline="") as table:
        told = list(csv.DictReader(table))
    assert [(fault["line"], fault["outcome"]) for fault in told] == [
        ("2", "repeated"), ("3", "left out"), ("4", "fault"), ("5", "no record"),
    ]  # fmt: skip
    same = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [{**fault, "line": str(fault["line"])} for fault in same] == told
    code, _, err = u2a("data", "--faults", tmp_path / "x.jsonl" / "f.csv", config=config)
    assert (code, "must be writable" in err) == (2, True)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_what_is_written_comes_back_with_the_same_ids_and_texts(tmp_path: Path, case: Case):
    file = lines(tmp_path / "x.jsonl", *case.rows)
    for role, load in LOADERS.items():
        try:
            found = load(file, columns={"format": case.name})
        except DataError:
            continue
        write_records(tmp_path / "again.jsonl", map(as_record, found))
        assert tuple(load(tmp_path / "again.jsonl")) == tuple(found), role


def test_a_set_that_is_written_keeps_its_identity(tmp_path: Path):
    one = load_negatives(lines(tmp_path / "x.jsonl", *CASES[0].rows))
    write_records(tmp_path / "again.jsonl", map(as_record, one.samples))
    assert load_negatives(tmp_path / "again.jsonl").sha256 == one.sha256


@pytest.mark.parametrize("name", sorted({case.name for case in CASES if case.pairs}))
def test_every_format_with_pairs_is_split_as_in_the_paper(tmp_path: Path, name: str):
    (row, *_) = next(case.rows for case in CASES if case.name == name and case.pairs)
    rows = [json.loads(json.dumps(row).replace("egg", f"egg {i}")) for i in range(80)]
    if name == "halueval-summarization":
        rows = [{**row, "document": f"{i}"} for i in range(80)]
    file = lines(tmp_path / "x.jsonl", *rows)
    pairs = load_preferences(file, columns={"format": name})[0]
    parts = split_pairs(pairs, Split(0.65, 0.65), seed=3)
    for part, records in parts.items():
        write_records(tmp_path / f"{part}.jsonl", records)
    names = {"negatives": "negatives", "preferences": "preferences", "prompts": "test_prompts"}
    data = {role: str(tmp_path / f"{part}.jsonl") for role, part in names.items()}
    found = inspect_data(parse_settings({"data": data}, source="here").data)
    assert [report.error for report in found.files] == ["", "", ""]
    assert found.overlaps == ()


def test_a_reply_that_another_pair_prefers_is_no_negative(tmp_path: Path):
    rows = [
        {"prompt": f"{i}?", "chosen": a, "rejected": b}
        for i in range(40)
        for a, b in (("best", "middle"), ("middle", "worst"))
    ]
    pairs = load_preferences(lines(tmp_path / "x.jsonl", *rows))[0]
    negatives = split_pairs(pairs, Split(1.0, 1.0), seed=0)["negatives"]
    assert {record["response"] for record in negatives} == {"worst"}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files stand beside the repository only")
@pytest.mark.parametrize(
    ("name", "format", "negatives", "pairs"),
    [
        ("pku_saferlhf_original_schema.jsonl", "pku-saferlhf", 1, 3),
        ("ultrafeedback_flat_60.jsonl", "ultrafeedback-flat", 48, 48),
        ("ultrafeedback_binarized_chat_40.jsonl", "ultrafeedback-binarized", 35, 35),
        ("halueval_qa_100.json", "halueval-qa", 100, 100),
    ],
)
def test_real_files_are_recognized_and_read(name: str, format: str, negatives: int, pairs: int):
    for role, usable in (("negatives", negatives), ("preferences", pairs)):
        found = report(role, str(REAL / name))
        assert (found.format, found.usable, found.faulty) == (format, usable, 0)
