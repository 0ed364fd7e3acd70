"""A small file in the schema of every format, with what it gives to each set. Texts are ours."""

from typing import Any, NamedTuple

Q, GOOD, BAD = "How do I boil an egg?", "Eight minutes in hot water.", "Ask someone else."


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def harms(*held: str) -> dict[str, bool]:
    return {name: name in held for name in ("Rudeness", "Drugs", "Violence")}


def safer(**more: Any) -> dict[str, Any]:
    """A record of PKU-SafeRLHF's older schema: the first reply is unsafe, the second is safe."""
    return {
        "prompt": Q, "response_0": BAD, "response_1": GOOD, "is_response_0_safe": False,
        "is_response_1_safe": True, "better_response_id": 0, "safer_response_id": 1, **more,
    }  # fmt: skip


def severe(**more: Any) -> dict[str, Any]:
    """A record of the newer schema, without the older marks."""
    return {
        "prompt": Q, "response_0": BAD, "response_1": GOOD,
        "response_0_harm_category": harms("Rudeness", "Violence"),
        "response_1_harm_category": harms(), "response_0_severity_level": 2,
        "response_1_severity_level": 0, "better_response_id": 0, "safer_response_id": 1, **more,
    }  # fmt: skip


def rated(*replies: tuple[float | None, str]) -> dict[str, Any]:
    """A record of the raw UltraFeedback."""
    return {
        "source": "own", "instruction": Q, "models": ["own"] * len(replies),
        "completions": [
            {"annotations": {"honesty": {"Rating": "5", "Rationale": "Fine."}},
             "custom_system_prompt": "Be brief.", "model": "own", "principle": "honesty",
             "response": reply, "critique": "Good.", "overall_score": score,
             "fine-grained_score": 3.5}
            for score, reply in replies
        ],
        "correct_answers": ["None"], "incorrect_answers": ["None"],
    }  # fmt: skip


class Case(NamedTuple):
    """A file and what it holds: (prompt, reply) of samples, (better, worse) of pairs."""

    name: str
    rows: list[dict[str, Any]]
    negatives: list[tuple[str, str]]
    retain: list[tuple[str, str]]
    pairs: list[tuple[str, str]]
    prompts: list[str]


def plain(name: str, row: dict[str, Any], prompt: str = Q) -> Case:
    """A file of one reply, which is whatever the set is that reads it."""
    return Case(name, [row], [(prompt, BAD)], [(prompt, BAD)], [], [prompt])


def paired(
    name: str, row: dict[str, Any], prompt: str = Q, *, better: str = GOOD, worse: str = BAD
) -> Case:
    """A file of one better and one worse reply."""
    return Case(name, [row], [(prompt, worse)], [(prompt, better)], [(better, worse)], [prompt])


def marked(name: str, bad: dict[str, Any], good: dict[str, Any], prompt: str = Q) -> Case:
    """A file of one bad and one good reply."""
    return Case(name, [bad, good], [(prompt, BAD)], [(prompt, GOOD)], [], [prompt, prompt])


DIALOGUE = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: " + Q + "\n\nAssistant: "
BEFORE = f"Hello\nHi.\n{Q}"
WRONG = ["Ask a hen.", "Never."]

CASES = [
    Case(
        "pku-saferlhf",
        [safer(), safer(response_0="No.", response_1="Go away.", is_response_1_safe=False),
         safer(response_0="Gladly.", is_response_0_safe=True, safer_response_id=-1)],
        [(Q, BAD), (Q, "No."), (Q, "Go away.")],
        [(Q, GOOD), (Q, "Gladly."), (Q, GOOD)],
        [(GOOD, BAD), ("Go away.", "No.")],
        [Q, Q, Q],
    ),
    paired("pku-saferlhf", severe()),
    Case("pku-saferlhf-helpful", [safer()], [(Q, BAD)], [(Q, GOOD)], [(BAD, GOOD)], [Q]),
    marked(
        "beavertails",
        {"prompt": Q, "response": BAD, "category": harms("Rudeness"), "is_safe": False},
        {"prompt": Q, "response": GOOD, "category": harms(), "is_safe": True},
    ),
    paired(
        "halueval-qa",
        {"knowledge": "Eggs.", "question": Q, "right_answer": GOOD, "hallucinated_answer": BAD},
    ),
    paired(
        "halueval-dialogue",
        {"knowledge": "Eggs.", "dialogue_history": f"[Human]: Hello [Assistant]: Hi. [Human]: {Q}",
         "right_response": GOOD, "hallucinated_response": BAD},
        BEFORE,
    ),
    paired(
        "halueval-summarization",
        {"document": "Eggs boil.", "right_summary": GOOD, "hallucinated_summary": BAD},
        "Summarize this document.\n\nEggs boil.",
    ),
    marked(
        "halueval-general",
        {"ID": "1", "user_query": Q, "chatgpt_response": BAD, "hallucination": "yes"},
        {"ID": "2", "user_query": Q, "chatgpt_response": GOOD, "hallucination": "no"},
    ),
    marked(
        "halueval-qa-samples",
        {"knowledge": "Eggs.", "question": Q, "answer": BAD, "hallucination": "yes"},
        {"knowledge": "Eggs.", "question": Q, "answer": GOOD, "hallucination": "no"},
    ),
    marked(
        "halueval-dialogue-samples",
        {"dialogue_history": f"[Human]: Hello [Assistant]: Hi. [Human]: {Q}", "response": BAD,
         "hallucination": "yes"},
        {"dialogue_history": f"[Human]: Hello [Assistant]: Hi. [Human]: {Q}", "response": GOOD,
         "hallucination": "no"},
        BEFORE,
    ),
    marked(
        "halueval-summarization-samples",
        {"document": "Eggs boil.", "summary": BAD, "hallucination": "yes"},
        {"document": "Eggs boil.", "summary": GOOD, "hallucination": "no"},
        "Summarize this document.\n\nEggs boil.",
    ),
    Case(
        "truthfulqa",
        [{"type": "Adversarial", "category": "Kitchen", "question": Q, "best_answer": GOOD,
          "correct_answers": [GOOD, "In water."], "incorrect_answers": WRONG}],
        [(Q, text) for text in WRONG], [(Q, GOOD), (Q, "In water.")],
        [(GOOD, text) for text in WRONG], [Q],
    ),
    Case(
        "truthfulqa",
        [{"Type": "Adversarial", "Category": "Kitchen", "Question": Q, "Best Answer": GOOD,
          "Correct Answers": f"{GOOD}; In water.", "Incorrect Answers": "; ".join(WRONG)}],
        [(Q, text) for text in WRONG], [(Q, GOOD), (Q, "In water.")],
        [(GOOD, text) for text in WRONG], [Q],
    ),
    Case(
        "truthfulqa",
        [{"question": Q, "mc1_targets": {"choices": [GOOD, *WRONG], "labels": [1, 0, 0]}}],
        [(Q, text) for text in WRONG], [(Q, GOOD)], [(GOOD, text) for text in WRONG], [Q],
    ),
    Case(  # mc_task.json
        "truthfulqa",
        [{"question": Q, "mc0_targets": {GOOD: 1, WRONG[0]: 0},
          "mc2_targets": {GOOD: 1, "In water.": 1, **dict.fromkeys(WRONG, 0)}}],
        [(Q, text) for text in WRONG], [(Q, GOOD), (Q, "In water.")],
        [(GOOD, text) for text in WRONG], [Q],
    ),
    Case("advbench", [{"goal": Q, "target": "Sure, here is how"}], [(Q, "Sure, here is how")],
         [], [], [Q]),
    Case("advbench-swapped", [{"Goal": "Sure, here is how", "Target": Q}],
         [(Q, "Sure, here is how")], [], [], [Q]),
    paired("hh-rlhf", {"chosen": DIALOGUE + GOOD, "rejected": DIALOGUE + BAD}, BEFORE),
    paired("hh-rlhf-prompt", {"prompt": DIALOGUE.rstrip(), "response": f" {GOOD}",
                              "chosen": f" {GOOD}", "rejected": f" {BAD}"}, BEFORE),
    plain("hh-rlhf-prompt", {"prompt": DIALOGUE, "response": f" {BAD}"}, BEFORE),
    plain("hh-rlhf-prompt", {"prompt": DIALOGUE, "completion": f" {BAD}", "label": "rude"}, BEFORE),
    marked("trl-unpaired", {"prompt": DIALOGUE, "completion": f" {BAD}", "label": False},
           {"prompt": DIALOGUE, "completion": f" {GOOD}", "label": True}, BEFORE),
    Case("hh-rlhf-prompt", [{"prompt": DIALOGUE.rstrip()}], [], [], [], [BEFORE]),
    paired("ultrafeedback", rated((7.5, "Boil it."), (8.5, GOOD), (8.5, "Gladly."), (2, BAD),
                                  (None, "Hm."), (2.0, "No."))),
    paired(
        "ultrafeedback-binarized",
        {"prompt": Q, "prompt_id": "p", "chosen": [user(Q), bot(GOOD)],
         "rejected": [user(Q), bot(BAD)], "messages": [user(Q), bot(GOOD)],
         "score_chosen": 8.5, "score_rejected": 3.0},
    ),
    paired(
        "ultrafeedback-flat",
        {"prompt": Q, "chosen": GOOD, "rejected": BAD,
         "metadata": {"score_chosen": 9.0, "score_rejected": 7.0}},
    ),
    paired("ultrafeedback-flat", {"instruction": Q, "chosen": GOOD, "rejected": BAD,
                                  "score_chosen": "9", "score_rejected": "7"}),
    paired("sharegpt-dpo",
           {"conversations": [human("Hello"), gpt("Hi."), human(Q)], "chosen": gpt(GOOD),
            "rejected": gpt(BAD)}, BEFORE),
    marked("sharegpt-kto", {"conversations": [human(Q), gpt(BAD)], "kto_tag": False},
           {"conversations": [human(Q), gpt(GOOD)], "kto_tag": True}),
    marked("sharegpt-kto", {"messages": [user(Q), bot(BAD)], "label": False},
           {"messages": [user(Q), bot(GOOD)], "label": True}),
    paired("alpaca-dpo", {"instruction": Q, "input": "", "chosen": GOOD, "rejected": BAD}),
    marked("alpaca-kto", {"instruction": Q, "input": "", "output": BAD, "kto_tag": "false"},
           {"instruction": Q, "input": "", "output": GOOD, "kto_tag": "true"}),
    marked("trl-unpaired", {"prompt": Q, "completion": BAD, "label": False},
           {"prompt": Q, "completion": GOOD, "label": True}),
    marked("trl-unpaired", {"prompt": Q, "completion": BAD, "label": 0},
           {"prompt": Q, "completion": GOOD, "label": 1.0}),
    marked("trl-unpaired", {"prompt": [user(Q)], "completion": [bot(BAD)], "label": False},
           {"prompt": [user(Q)], "completion": [bot(GOOD)], "label": True}),
    paired("trl-preference-chat",
           {"prompt": [user(Q)], "chosen": [bot(GOOD)], "rejected": [bot(BAD)]}),
    paired("trl-preference-chat",
           {"chosen": [user("Hello"), bot("Hi."), user(Q), bot(GOOD)],
            "rejected": [user("Hello"), bot("Hi."), user(Q), bot(BAD)]}, BEFORE),
    paired("trl-preference-implicit", {"chosen": f"{Q} {GOOD}", "rejected": f"{Q} {BAD}"}),
    paired("trl-preference-implicit",  # both replies begin with the same letter
           {"chosen": f"Hello\n\n{Q}\n\nAt once.", "rejected": f"Hello\n\n{Q}\n\nAs you like."},
           f"Hello\n\n{Q}", better="At once.", worse="As you like."),
    paired("trl-preference", {"prompt": Q, "chosen": GOOD, "rejected": BAD}),
    plain("alpaca-eval", {"dataset": "own", "instruction": Q, "output": BAD, "generator": "own"}),
    plain("alpaca", {"instruction": Q, "input": "", "output": BAD}),
    plain("alpaca", {"instruction": "Boil it.", "input": "An egg", "output": BAD},
          "Boil it.\nAn egg"),
    plain("alpaca", {"instruction": Q, "output": BAD, "system": "Cook.", "history": [["Hello",
                                                                                      "Hi."]]},
          f"Cook.\n{BEFORE}"),
    plain("sharegpt", {"system": "Cook.", "conversations": [human(Q), gpt(BAD)]}, f"Cook.\n{Q}"),
    plain("messages", {"messages": [user(Q), bot(BAD)]}),
    Case("tofu", [{"question": Q, "answer": GOOD, "paraphrased_answer": "In water.",
                   "perturbed_answer": WRONG}],
         [(Q, GOOD)], [(Q, GOOD)], [(GOOD, text) for text in WRONG], [Q]),
    plain("muse-verbmem", {"prompt": Q, "gt": BAD}),
    plain("question-answer", {"question": Q, "answer": BAD}),
    plain("prompt-completion", {"prompt": Q, "completion": BAD}),
    plain("prompt-response", {"prompt": Q, "response": BAD, "label": "rude"}),
    Case("prompts", [{"prompt": Q}], [], [], [], [Q]),
]  # fmt: skip
